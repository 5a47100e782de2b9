//! A file in the cache of compiled agents, and the key beside it.
//!
//! Behind a MAC that is ours a file is trusted: its code is not changed here.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::OnceLock;

use tempfile::TempDir;
use wasm_worker_sandbox::agent::artifact::Cache;
use wasm_worker_sandbox::job::spec::JobSpec;

use crate::core_guest;
use crate::worker::worker;

const KEY: [u8; 32] = [7; 32];
const MAC_BYTES: usize = 32;
const LENGTH_BYTES: usize = 4;

/// A cache with one agent in it.
struct Filled {
    dir: TempDir,
    component: Vec<u8>,
    /// Where the agent is kept.
    file: PathBuf,
    /// As it was written.
    good: Vec<u8>,
}

fn fill() -> Filled {
    let (dir, component) = (TempDir::new().unwrap(), core_guest::component(""));
    write_key(&dir, &KEY);
    let cache = Cache::open(dir.path()).unwrap();
    worker().whole_job(component.clone(), JobSpec::default(), Some(&cache)).expect("a good agent");
    let mut files = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
    let file = files.find(|path| path.extension().is_some_and(|extension| extension == "agent")).unwrap();
    let good = fs::read(&file).unwrap();
    Filled { dir, component, file, good }
}

fn write_key(dir: &TempDir, key: &[u8]) {
    let path = dir.path().join("mac.key");
    fs::write(&path, key).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// The first byte says what the others are: the key, the file, changes of it, where it ends, or the facts behind a good MAC.
pub fn run(bytes: &[u8]) {
    static FILLED: OnceLock<Filled> = OnceLock::new();
    let filled = FILLED.get_or_init(fill);
    let Some((kind, rest)) = bytes.split_first() else { return };
    let mut file = filled.good.clone();
    write_key(&filled.dir, if kind % 5 == 0 { rest } else { &KEY });
    match kind % 5 {
        0 => {}
        1 => file = rest.to_vec(),
        2 => rest.chunks_exact(4).for_each(|change| {
            let at = u32::from_le_bytes([change[0], change[1], change[2], 0]) as usize % file.len();
            file[at] ^= change[3];
        }),
        3 => file.truncate(rest.iter().fold(0, |at, byte| at << 8 | usize::from(*byte)) % file.len()),
        _ => file = with_facts(filled, rest),
    }
    fs::write(&filled.file, file).unwrap();
    match Cache::open(filled.dir.path()) {
        Err(error) => assert!(kind % 5 == 0 && rest.len() != KEY.len(), "{error:?}"),
        Ok(cache) => {
            let closed = worker().whole_job(filled.component.clone(), JobSpec::default(), Some(&cache));
            assert_eq!(closed.expect("a good agent, whatever is in its cache").verdict.code.as_str(), "completed");
        }
    }
}

/// The file with other facts, or a whole other header, and the MAC that belongs to it.
fn with_facts(filled: &Filled, facts: &[u8]) -> Vec<u8> {
    let body = &filled.good[MAC_BYTES..];
    let (length, rest) = body.split_first_chunk::<LENGTH_BYTES>().unwrap();
    let code = &rest[u32::from_le_bytes(*length) as usize..];
    let mut changed = match facts.split_first_chunk::<LENGTH_BYTES>() {
        // Any length, and no code behind it that could be run.
        Some((length, facts)) if length[3] != b'"' && !facts.starts_with(b"{") => [length.as_slice(), facts].concat(),
        _ => [u32::try_from(facts.len()).unwrap().to_le_bytes().as_slice(), facts, code].concat(),
    };
    let name = filled.file.file_stem().unwrap().to_str().unwrap();
    let mut mac = blake3::Hasher::new_keyed(&KEY);
    mac.update(blake3::Hash::from_hex(name).unwrap().as_bytes()).update(&changed);
    let mut file = mac.finalize().as_bytes().to_vec();
    file.append(&mut changed);
    file
}
