//! The forms in which an answer may repeat a value: as it is, with escapes of JSON, URLs and forms, and in base64.

use std::collections::BTreeSet;

use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use url::form_urlencoded;

/// Shortest form that is searched for, in bytes.
const FORM_BYTES_MIN: usize = 8;

/// All forms of a value, without those that are too short.
pub(super) fn forms_of(value: &str) -> BTreeSet<Vec<u8>> {
    let percent = |hex: fn(u8) -> String| {
        value
            .bytes()
            .map(|byte| if is_unreserved(byte) { char::from(byte).into() } else { hex(byte) })
            .collect::<String>()
    };
    let json = value.replace('\\', "\\\\").replace('"', "\\\"");
    let texts = [
        value.to_owned(),
        percent(|byte| format!("%{byte:02X}")),
        percent(|byte| format!("%{byte:02x}")),
        form_urlencoded::byte_serialize(value.as_bytes()).collect(),
        json.replace('/', "\\/"),
        json,
    ];
    let shifts = (0..3).flat_map(|shift| [&STANDARD, &URL_SAFE].map(|engine| base64_part(engine, value, shift)));
    let forms = texts.into_iter().chain(shifts).map(String::into_bytes);
    forms.filter(|form| form.len() >= FORM_BYTES_MIN).collect()
}

const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// The characters of base64 that are the same whatever stands around the value, where `shift` more bytes stand before it than fill
/// groups of three.
fn base64_part(engine: &impl base64::Engine, value: &str, shift: usize) -> String {
    let mut bytes = vec![0; shift];
    bytes.extend_from_slice(value.as_bytes());
    let encoded = engine.encode(&bytes);
    // A character has six bits: the first ones that hold bits of what stands before, and the last one if bits of what follows.
    let (start, end) = ((shift * 8).div_ceil(6), bytes.len() * 8 / 6);
    encoded.get(start..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;

    use super::*;

    #[test]
    fn a_value_is_found_in_base64_wherever_it_stands() {
        let value = "sk-hidden+/value~1";
        let forms = forms_of(value);
        for before in ["", "u", "us", "usr", "user:"] {
            for after in ["", "x", "xy", "xyz"] {
                for engine in [&STANDARD, &URL_SAFE] {
                    let encoded = engine.encode(format!("{before}{value}{after}"));
                    let found = forms.iter().any(|form| {
                        let form = std::str::from_utf8(form).unwrap();
                        // All but what the neighbours change.
                        form.len() + 2 >= value.len() * 4 / 3 && encoded.contains(form)
                    });
                    assert!(found, "{before}{after} {encoded}");
                }
            }
        }
    }

    #[test]
    fn escapes_are_forms() {
        let forms = forms_of("a/b c\"d\\e&f");
        for form in [
            "a/b c\"d\\e&f",
            "a%2Fb%20c%22d%5Ce%26f",
            "a%2fb%20c%22d%5ce%26f",
            "a%2Fb+c%22d%5Ce%26f",
            r#"a\/b c\"d\\e&f"#,
        ] {
            assert!(forms.contains(form.as_bytes()), "{form}");
        }
    }
}
