//! `agent.toml`, beside the crate of an agent and in the component: what the agent asks of its operator.
//!
//! In a component it is the custom section [`SECTION`], whose content is the text of the file.
//!
//! Bounds: [`TEXT_BYTES_MAX`], [`ENTRIES_MAX`] of each kind.

use std::io;
use std::path::Path;

use wasm_worker_core::manifest::Manifest;
use wasm_worker_core::text::clip;

use super::file;

/// The name of the file.
pub const FILE: &str = "agent.toml";
/// The custom section of a component that has it.
pub(super) const SECTION: &str = "wasm-worker:manifest";
/// Most bytes of the text.
pub(super) const TEXT_BYTES_MAX: usize = 64 << 10;
/// Most hosts, settings, and secrets.
const ENTRIES_MAX: usize = 64;
/// Longest name of a setting or a secret, in bytes.
const NAME_BYTES_MAX: usize = 64;
/// Longest default of a setting, in bytes.
const VALUE_BYTES_MAX: usize = 4 << 10;

/// The text of the file in this directory; none where there is no file. It is checked.
pub(super) fn of_dir(dir: &Path) -> Result<Option<String>, String> {
    let bytes = match file::read(&dir.join(FILE), TEXT_BYTES_MAX as u64) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
    parse(&text)?;
    Ok(Some(text))
}

/// Read the text.
///
/// # Errors
/// The position, and what is wanted there.
pub(super) fn parse(text: &str) -> Result<Manifest, String> {
    let manifest: Manifest = toml::from_str(text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        format!("line {}: {}", before.matches('\n').count() + 1, clip(error.message()))
    })?;
    let Manifest { hosts, settings, secrets } = &manifest;
    for (what, count) in [("hosts", hosts.len()), ("settings", settings.len()), ("secrets", secrets.len())] {
        if count > ENTRIES_MAX {
            return Err(format!("{count} {what}; want {ENTRIES_MAX} at most"));
        }
    }
    if let Some(name) = settings.keys().chain(secrets.keys()).find(|name| !is_name(name)) {
        return Err(format!("`{}` is no name; want 1 to {NAME_BYTES_MAX} of a-z, A-Z, 0-9, `-` and `_`", clip(name)));
    }
    if let Some((name, _)) = settings.iter().find(|(_, value)| value.len() > VALUE_BYTES_MAX) {
        return Err(format!("the default of the setting `{name}` is longer than {VALUE_BYTES_MAX} bytes"));
    }
    if let Some((name, _)) = secrets.iter().find(|(_, secret)| secret.header.is_some() == secret.query.is_some()) {
        return Err(format!("the secret `{name}` goes nowhere or to two places; want `header` or `query`"));
    }
    Ok(manifest)
}

fn is_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_plain)
}

/// Add the text to a component.
pub(super) fn embed(component: &mut Vec<u8>, text: &str) {
    let mut content = Vec::new();
    push_size(&mut content, SECTION.len());
    content.extend(SECTION.bytes());
    content.extend(text.bytes());
    // The id of custom sections.
    component.push(0);
    push_size(component, content.len());
    component.extend(content);
}

/// A number as WebAssembly writes it (LEB128).
fn push_size(bytes: &mut Vec<u8>, mut size: usize) {
    loop {
        let low = u8::try_from(size & 0x7f).unwrap_or_default();
        size >>= 7;
        if size == 0 {
            return bytes.push(low);
        }
        bytes.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::super::contents::Contents;
    use super::*;

    const WHOLE: &str = "hosts = [\"api.example.com\"]\n[settings]\nmodel = \"small\"\n[secrets]\nKEY = { host = \
                         \"api.example.com\", header = \"authorization\", prefix = \"Bearer \" }\n";

    #[test]
    fn all_parts_are_read() {
        let manifest = parse(WHOLE).unwrap();
        assert_eq!(
            (manifest.hosts.as_slice(), &*manifest.settings["model"]),
            (&["api.example.com".to_owned()][..], "small")
        );
        let secret = &manifest.secrets["KEY"];
        assert_eq!((secret.header.as_deref(), &*secret.prefix), (Some("authorization"), "Bearer "));
        assert!(parse("").unwrap().is_empty());
    }

    #[test]
    fn faults_are_named_with_what_is_wanted() {
        let many: String = (0..65).map(|number| format!("\"h{number}.test\",")).collect();
        for (text, wanted) in [
            ("hosts = [\n", "line 1: unclosed array"),
            ("hosts = []\nhost = 1\n", "line 2: unknown field `host`"),
            ("[settings]\nmodel = 5\n", "line 2: invalid type: integer `5`, expected a string"),
            (&format!("hosts = [{many}]"), "65 hosts; want 64 at most"),
            ("[settings]\n\"a b\" = \"c\"", "`a b` is no name"),
            (&format!("[settings]\na = \"{}\"", "x".repeat(5_000)), "longer than 4096 bytes"),
            ("[secrets]\nA = { host = \"h\" }", "want `header` or `query`"),
            ("[secrets]\nA = { host = \"h\", header = \"a\", query = \"b\" }", "want `header` or `query`"),
            ("[secrets]\nA = { header = \"a\" }", "missing field `host`"),
        ] {
            let why = parse(text).unwrap_err();
            assert!(why.contains(wanted), "{text}: {why}");
        }
    }

    #[test]
    fn a_component_keeps_the_text() {
        for text in [String::new(), WHOLE.into(), "#".repeat(TEXT_BYTES_MAX)] {
            let mut component = wat::parse_str("(component)").unwrap();
            embed(&mut component, &text);
            let contents = Contents::read(&component);
            assert!(contents.is_whole);
            assert_eq!(contents.manifest.as_deref(), Some(&*text));
        }
    }

    #[test]
    fn a_directory_has_one_or_none() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(of_dir(dir.path()), Ok(None));
        std::fs::write(dir.path().join(FILE), WHOLE).unwrap();
        assert_eq!(of_dir(dir.path()), Ok(Some(WHOLE.into())));
        for bad in [&b"\xff"[..], b"hosts = 1", &vec![b'#'; TEXT_BYTES_MAX + 1]] {
            std::fs::write(dir.path().join(FILE), bad).unwrap();
            assert!(of_dir(dir.path()).is_err());
        }
    }
}
