//! How `ps`, `kill`, `drain` and `events` reach workers that run: those of this user on this machine, or one at a URL.
//!
//! A process of a fleet has its jobs, and its supervisor what concerns them all.

use std::io::Read;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::settings::{Choice, SettingFlags};
use super::{Exit, Failure};
use crate::config::url;
use crate::discovery::{self, LocalWorker, Role};

const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The settings that say where workers of this machine are.
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
    /// Where one worker answers HTTP, such as http://10.0.0.7:8081 [default: all of yours on this machine]; shows `--http-token`
    #[arg(long, value_name = "URL", value_parser = http_url)]
    worker: Option<String>,
    #[command(flatten)]
    settings: SettingFlags<LocalSettings>,
}

/// Whom a verb is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audience {
    Everybody,
    /// Those that have jobs.
    Workers,
    /// Supervisors for their processes.
    Heads,
}

impl Audience {
    fn has(self, worker: &LocalWorker, all: &[LocalWorker]) -> bool {
        match (self, worker.role) {
            (Self::Everybody, _) | (Self::Workers | Self::Heads, Role::Worker) => true,
            (Self::Workers, role) => role != Role::Supervisor,
            (Self::Heads, Role::Supervisor) => true,
            (Self::Heads, Role::Process { of }) => all.iter().all(|other| other.pid != of),
        }
    }
}

/// One worker to talk to.
pub(crate) struct Remote {
    pub(crate) name: String,
    url: String,
    token: String,
}

/// Ask each. One that does not answer does not keep a verb from the others, and is told about at the end.
pub(crate) fn each(remotes: &[Remote], mut ask: impl FnMut(&Remote) -> Result<(), Failure>) -> Result<(), Failure> {
    let mut outcome = Ok(());
    for remote in remotes {
        outcome = outcome.and(ask(remote));
    }
    outcome
}

/// What a worker answered.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl RemoteFlags {
    /// At least one worker.
    pub(crate) fn of(self, audience: Audience) -> Result<Vec<Remote>, Failure> {
        let config = self.settings.load()?;
        if let Some(url) = self.worker {
            let token = config.http_token.map(|token| token.0).unwrap_or_default();
            return Ok(vec![Remote { name: url.clone(), url: url.trim_end_matches('/').to_owned(), token }]);
        }
        let found = discovery::find_all(&config.cache_dir);
        if found.is_empty() {
            let error = "no worker of yours runs on this machine".into();
            let hint = "`--worker URL` reaches one elsewhere; one that runs with `--http off` cannot be reached";
            return Err(Failure { exit: Exit::Host, error, hint: None }.with_hint(hint));
        }
        let those = found.iter().filter(|worker| audience.has(worker, &found));
        let remote = |worker: &LocalWorker| Remote {
            name: worker.pid.to_string(),
            url: worker.url.clone(),
            token: worker.token.clone(),
        };
        Ok(those.map(remote).collect())
    }
}

impl Remote {
    pub(crate) fn get(&self, path: &str) -> Result<Answer, Failure> {
        let response =
            agent(Some(ANSWER_WITHIN)).get(format!("{}{path}", self.url)).header("Authorization", self.bearer()).call();
        self.answer(response)
    }

    pub(crate) fn post(&self, path: &str) -> Result<Answer, Failure> {
        let request =
            agent(Some(ANSWER_WITHIN)).post(format!("{}{path}", self.url)).header("Authorization", self.bearer());
        self.answer(request.send_empty())
    }

    /// A response without an end.
    pub(crate) fn follow(&self, path: &str) -> Result<impl Read + use<>, Failure> {
        let response = agent(None).get(format!("{}{path}", self.url)).header("Authorization", self.bearer()).call();
        let response = response.map_err(|error| self.unreachable(&error.to_string()))?;
        if !response.status().is_success() {
            return Err(self.unreachable(&format!("it answered {}", response.status())));
        }
        Ok(response.into_body().into_reader())
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.token)
    }

    fn answer(&self, response: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Answer, Failure> {
        let mut response = response.map_err(|error| self.unreachable(&error.to_string()))?;
        let status = response.status().as_u16();
        let text = response.body_mut().read_to_string().map_err(|error| self.unreachable(&error.to_string()))?;
        if status == 401 {
            let failure = Failure::usage(format!("the worker `{}` does not take the token", self.name));
            return Err(failure.with_hint("set --http-token (WASM_WORKER_HTTP_TOKEN) as the worker has it"));
        }
        Ok(Answer { status, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) })
    }

    fn unreachable(&self, why: &str) -> Failure {
        Failure {
            exit: Exit::Host,
            error: format!("the worker `{}` does not answer: {why}", self.name).into(),
            hint: None,
        }
    }
}

/// Statuses are data here.
fn agent(within: Option<Duration>) -> ureq::Agent {
    ureq::Agent::config_builder().timeout_global(within).http_status_as_error(false).build().new_agent()
}
