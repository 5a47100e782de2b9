//! Aligned tables for people: a line of headers, and columns as wide as their longest cell. A cell is one line that a terminal only
//! shows, whatever its text.

use wasm_worker_core::text::one_line;

/// One column: its header, and the side on which its cells are aligned.
#[derive(Clone, Copy)]
pub(super) enum Column {
    /// Names and texts.
    Left(&'static str),
    /// Figures.
    Right(&'static str),
}

impl Column {
    const fn header(self) -> &'static str {
        match self {
            Self::Left(header) | Self::Right(header) => header,
        }
    }
}

/// A table of `N` columns. The last column is not padded, so a long text belongs there.
pub(super) fn table<const N: usize>(columns: [Column; N], rows: &[[String; N]]) -> String {
    let headers = columns.map(|column| column.header().to_owned());
    let rows: Vec<[String; N]> = rows.iter().map(|row| row.each_ref().map(|text| cell(text))).collect();
    let all = || std::iter::once(&headers).chain(&rows);
    let widths: Vec<usize> =
        (0..N).map(|at| all().filter_map(|row| row.get(at)).map(|cell| width(cell)).max().unwrap_or(0)).collect();
    all().map(|row| line(&columns, &widths, row)).collect::<Vec<_>>().join("\n")
}

fn cell(text: &str) -> String {
    one_line(text).replace('\t', " ")
}

fn line(columns: &[Column], widths: &[usize], row: &[String]) -> String {
    let cells = columns.iter().zip(widths).zip(row).map(|((column, most), cell)| {
        let padding = " ".repeat(most.saturating_sub(width(cell)));
        match column {
            Column::Left(_) => format!("{cell}{padding}"),
            Column::Right(_) => format!("{padding}{cell}"),
        }
    });
    cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
}

fn width(cell: &str) -> usize {
    cell.chars().count()
}

/// An age or a duration in its two largest units: `850ms`, `12s`, `3m05s`, `2h10m`, `4d03h`.
pub(super) fn time(time: std::time::Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 => format!("{}ms", time.as_millis()),
        1..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{:02}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// A size: `900B`, `2.0KiB`, `5.0MiB`.
pub(super) fn bytes(bytes: u64) -> String {
    if bytes < 1_024 {
        return format!("{bytes}B");
    }
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let (number, unit) = scaled(bytes as f64, 1_024.0, &["B", "KiB", "MiB", "GiB", "TiB"]);
    format!("{number:.1}{unit}")
}

/// A number of anything: `0.5`, `9999`, `1.2M`.
pub(super) fn amount(amount: f64) -> String {
    if amount.abs() < 10_000.0 {
        // Three decimals, without zeros at the end.
        return ((amount * 1_000.0).round() / 1_000.0).to_string();
    }
    let (number, unit) = scaled(amount, 1_000.0, &["", "k", "M", "G", "T"]);
    // An agent may report any number.
    if number.abs() < 10_000.0 { format!("{number:.1}{unit}") } else { format!("{amount:.1e}") }
}

/// A number in the largest unit of these in which it is at least 1. Each unit has so many of the one before.
fn scaled<'a>(mut number: f64, step: f64, units: &[&'a str]) -> (f64, &'a str) {
    let mut units = units.iter();
    let mut unit = units.next().copied().unwrap_or_default();
    // What is shown with one decimal must not be shown as a whole step.
    while number.abs() >= step - 0.05
        && let Some(next) = units.next()
    {
        (number, unit) = (number / step, next);
    }
    (number, unit)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_longest_cell() {
        let rows = [["a".to_owned(), "1".into(), "ends here".into()], ["röm".into(), "1000".into(), String::new()]];
        let text = table([Column::Left("NAME"), Column::Right("N"), Column::Left("TEXT")], &rows);
        assert_eq!(text, "NAME     N  TEXT\na        1  ends here\nröm   1000");
    }

    #[test]
    fn a_cell_is_one_line_whatever_its_text() {
        let rows = [["a\u{1b}[2Jb".to_owned(), "c\r\nd\te\u{9b}f\u{202e}".into()]];
        let text = table([Column::Left("NAME"), Column::Left("TEXT")], &rows);
        assert_eq!(text, "NAME    TEXT\na [2Jb  c  d e f");
    }

    #[test]
    fn a_time_has_its_two_largest_units() {
        let shown = [850, 12_000, 185_000, 7_800_000, 356_400_000].map(|millis| time(Duration::from_millis(millis)));
        assert_eq!(shown, ["850ms", "12s", "3m05s", "2h10m", "4d03h"]);
    }

    #[test]
    fn sizes_and_amounts_are_short() {
        let sizes = [0, 1_023, 1_024, 1_536, (1 << 20) - 1, 5 << 20, u64::MAX].map(bytes);
        assert_eq!(sizes, ["0B", "1023B", "1.0KiB", "1.5KiB", "1.0MiB", "5.0MiB", "16777216.0TiB"]);
        let amounts = [0.0, 0.5, -2.0, 1.0 / 3.0, 9_999.0, 10_000.0, 999_999.0, 1_234_567.0, 2e12, -1e300].map(amount);
        assert_eq!(amounts, ["0", "0.5", "-2", "0.333", "9999", "10.0k", "1.0M", "1.2M", "2.0T", "-1.0e300"]);
    }
}
