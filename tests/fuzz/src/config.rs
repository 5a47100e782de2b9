//! The config file, and what comes from the environment and the command line.

use wasm_worker::config::{Config, Override, SETTINGS};

/// A file; after a line `---`, lines of `KEY=VALUE` as flags would give them.
pub fn run(bytes: &[u8]) {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = String::from_utf8_lossy(bytes);
    let (toml, flags) = text.split_once("\n---\n").unwrap_or((&text, ""));
    // A file need not be UTF-8.
    std::fs::write(file.path(), if flags.is_empty() { bytes } else { toml.as_bytes() }).unwrap();
    let overrides = flags.lines().filter_map(|line| {
        let (key, value) = line.split_once('=')?;
        let key = SETTINGS.iter().find(|setting| setting.key == key)?.key;
        Some(Override { key, value: value.into(), source: "flag".into() })
    });
    match Config::load(Some(file.path()), overrides.collect()) {
        Ok(Config { agent, .. }) => {
            let limits = agent.limits;
            assert!((64 << 10..=4 << 30).contains(&limits.memory_bytes), "{limits:?}");
            assert!((16 << 10..=64 << 20).contains(&limits.stack_bytes), "{limits:?}");
            assert!(!limits.init_timeout.is_zero() && limits.fuel != Some(0), "{limits:?}");
        }
        Err(error) => {
            assert!(!error.faults.is_empty());
            for fault in &error.faults {
                assert!(!fault.what.is_empty() && !fault.why.is_empty(), "{fault:?}");
            }
            assert!(error.to_string().contains("fault"));
        }
    }
}
