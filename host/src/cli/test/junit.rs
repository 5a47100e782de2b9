//! Results as JUnit XML, which the services that build and test software show.

use super::report::{Played, Report};

/// The whole file.
pub(super) fn xml(report: &Report) -> String {
    let (tests, failures) = (report.played.len(), report.failed());
    let time = report.took.as_secs_f64();
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let counts = format!("tests=\"{tests}\" failures=\"{failures}\" errors=\"0\" skipped=\"0\" time=\"{time:.3}\"");
    text.push_str(&format!("<testsuites {counts}>\n  <testsuite name=\"{}\" {counts}>\n", escaped(&report.agent)));
    report.played.iter().for_each(|played| text.push_str(&case(played)));
    text.push_str("  </testsuite>\n</testsuites>\n");
    text
}

fn case(played: &Played) -> String {
    let (name, file) = (escaped(&played.name), escaped(&played.file));
    let head = format!("    <testcase name=\"{name}\" classname=\"{file}\" time=\"{:.3}\"", played.took.as_secs_f64());
    match &played.why {
        None => format!("{head}/>\n"),
        Some(why) => {
            let details = played.details().join("\n");
            format!(
                "{head}>\n      <failure message=\"{}\">{}</failure>\n    </testcase>\n",
                escaped(why),
                escaped(&details)
            )
        }
    }
}

/// A text inside of XML. Characters that XML 1.0 cannot have become spaces.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '\n' => escaped.push_str("&#10;"),
            '\t' => escaped.push('\t'),
            '\u{fffe}' | '\u{ffff}' => escaped.push(' '),
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_can_end_an_element() {
        assert_eq!(escaped("a<b>&\"\u{1b}\n\u{ffff}é"), "a&lt;b&gt;&amp;&quot; &#10; é");
    }
}
