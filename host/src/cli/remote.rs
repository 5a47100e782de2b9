//! How `ps`, `job`, `logs`, `kill`, `drain` and `events` reach workers: those of this user on this machine, or one at a URL.
//!
//! A process of a fleet answers for its own jobs, and its supervisor for all processes.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use clap::Args;
use hyper::body::Bytes;
use hyper::{Method, Request};
use serde::de::DeserializeOwned;
use wasm_worker_core::api::Problem;
use wasm_worker_core::text::clip;

use super::settings::{Choice, SettingFlags};
use super::{Exit, Failure};
use crate::config::url;
use crate::discovery::{self, LocalWorker, Role};
use crate::http_client::HttpClient;
use wasm_worker_network::fault::ConnectionError;

const ANSWER_WITHIN: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// The root of a worker's API.
const API: &str = "/api/v1";

/// The settings that lead to the workers of this machine.
pub(crate) struct LocalSettings;

impl Choice for LocalSettings {
    fn has(key: &str) -> bool {
        matches!(key, "cache-dir" | "http-token")
    }
}

fn http_url(text: &str) -> Result<String, String> {
    url(text, &["http", "https"])
}

#[derive(Args)]
pub(crate) struct RemoteFlags {
    /// HTTP address of one worker, such as http://10.0.0.7:8081, with its `--http-token` [default: all of this user's workers on this machine]
    #[arg(long, value_name = "URL", value_parser = http_url)]
    worker: Option<String>,
    #[command(flatten)]
    settings: SettingFlags<LocalSettings>,
}

/// The processes that a verb is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audience {
    Everybody,
    /// Processes that run jobs.
    Workers,
    /// Workers, with a supervisor in place of its processes.
    Supervisors,
}

impl Audience {
    fn has(self, worker: &LocalWorker, all: &[LocalWorker]) -> bool {
        match (self, worker.role) {
            (Self::Everybody, _) | (Self::Workers | Self::Supervisors, Role::Worker) => true,
            (Self::Workers, role) => role != Role::Supervisor,
            (Self::Supervisors, Role::Supervisor) => true,
            (Self::Supervisors, Role::Process { of }) => all.iter().all(|other| other.pid != of),
        }
    }
}

/// One worker that can be asked.
pub(crate) struct Remote {
    /// The process id, or the URL.
    pub(crate) name: String,
    pub(crate) pid: Option<u32>,
    url: String,
    token: String,
}

/// Ask each worker. The first failure is returned when all have been asked.
pub(crate) fn each<'a>(
    remotes: &'a [Remote],
    mut ask: impl FnMut(&'a Remote) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut outcome = Ok(());
    for remote in remotes {
        outcome = outcome.and(ask(remote));
    }
    outcome
}

/// The answer of a worker.
pub(crate) enum Answer<T> {
    Done(T),
    /// The worker does not know this job.
    Unknown,
    /// The worker refused for another reason.
    Refused(Failure),
}

impl<T> Answer<T> {
    /// For a request that no job is named in.
    pub(crate) fn done(self) -> Result<T, Failure> {
        match self {
            Self::Done(done) => Ok(done),
            Self::Unknown => Err(Failure::usage("the worker does not know this path, and has another version")),
            Self::Refused(failure) => Err(failure),
        }
    }
}

impl RemoteFlags {
    /// The workers of this audience, at least one.
    pub(crate) fn of(self, audience: Audience) -> Result<Vec<Remote>, Failure> {
        let config = self.settings.load()?;
        if let Some(url) = self.worker {
            let token = config.http_token.map(|token| token.0).unwrap_or_default();
            return Ok(vec![Remote { name: url.clone(), pid: None, url: url.trim_end_matches('/').to_owned(), token }]);
        }
        let found = discovery::find_all(&config.cache_dir);
        if found.is_empty() {
            let error = "this user runs no worker on this machine".into();
            let hint = "`--worker URL` asks a worker elsewhere; a worker with `--http off` cannot be asked";
            return Err(Failure { exit: Exit::Host, error, hint: None }.with_hint(hint));
        }
        Ok(remotes(&found, audience))
    }
}

/// The workers of this audience that this user runs on this machine.
pub(super) fn local(cache_dir: &Path, audience: Audience) -> Vec<Remote> {
    remotes(&discovery::find_all(cache_dir), audience)
}

fn remotes(found: &[LocalWorker], audience: Audience) -> Vec<Remote> {
    let those = found.iter().filter(|worker| audience.has(worker, found));
    let remote = |worker: &LocalWorker| Remote {
        name: worker.pid.to_string(),
        pid: Some(worker.pid),
        url: worker.url.clone(),
        token: worker.token.clone(),
    };
    those.map(remote).collect()
}

impl Remote {
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<Answer<T>, Failure> {
        self.answer(Method::GET, path)
    }

    pub(crate) fn post<T: DeserializeOwned>(&self, path: &str) -> Result<Answer<T>, Failure> {
        self.answer(Method::POST, path)
    }

    /// A response without an end.
    pub(crate) fn follow(&self, path: &str) -> Result<impl Read + use<>, Failure> {
        let followed = client().follow(self.request(Method::GET, path)?);
        let (status, body) = followed.map_err(|error| self.unreachable(&error))?;
        if status.is_success() { Ok(body) } else { Err(self.refused(status.as_u16(), "")) }
    }

    fn request(&self, method: Method, path: &str) -> Result<Request<Bytes>, Failure> {
        if self.url.contains(['?', '#']) {
            return Err(self.unreachable(&ConnectionError::Url));
        }
        let request = Request::builder().method(method).uri(format!("{}{API}{path}", self.url));
        let request = request.header("Authorization", format!("Bearer {}", self.token)).body(Bytes::new());
        request.map_err(|_| self.unreachable(&ConnectionError::Url))
    }

    fn answer<T: DeserializeOwned>(&self, method: Method, path: &str) -> Result<Answer<T>, Failure> {
        let answer = client().call_and_wait(self.request(method, path)?);
        let answer = answer.map_err(|error| self.unreachable(&error))?;
        let (status, text) = (answer.status.as_u16(), String::from_utf8_lossy(&answer.body));
        match status {
            200..300 => serde_json::from_str(&text).map(Answer::Done).map_err(|error| Failure {
                exit: Exit::Host,
                error: format!("the worker `{}` has another version: {error}", self.name).into(),
                hint: None,
            }),
            401 => Err(self.refused(status, &text)),
            404 => Ok(Answer::Unknown),
            _ => Ok(Answer::Refused(self.refused(status, &text))),
        }
    }

    fn refused(&self, status: u16, body: &str) -> Failure {
        if status == 401 {
            let failure = Failure::usage(format!("the worker `{}` rejects the token", self.name));
            return failure.with_hint("set --http-token (WASM_WORKER_HTTP_TOKEN) to that of the worker");
        }
        let why = match serde_json::from_str(body) {
            Ok(Problem { error }) => clip(&error),
            Err(_) => format!("{status} {}", clip(body.trim())).trim_end().to_owned(),
        };
        let exit = if status >= 500 { Exit::Host } else { Exit::Usage };
        Failure { exit, error: format!("the worker `{}` refuses: {why}", self.name).into(), hint: None }
    }

    fn unreachable(&self, why: &ConnectionError) -> Failure {
        Failure {
            exit: Exit::Host,
            error: format!("the worker `{}` does not answer: {why}", self.name).into(),
            hint: None,
        }
    }
}

/// A job's id as a part of a path, unless it has characters that no id has.
pub(crate) fn job_path(job: &str) -> Option<&str> {
    let is_id = !job.is_empty() && job.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte));
    is_id.then_some(job)
}

fn client() -> HttpClient {
    HttpClient::new(ANSWER_WITHIN, ANSWER_BYTES_MAX)
}
