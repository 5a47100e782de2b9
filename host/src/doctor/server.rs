//! The server of the settings: whether it answers, accepts the key, and has the same time.

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use wasm_worker_dispatcher::reachable;

use super::Finding;
use crate::app::client::{Client, ClientError, Probe};
use crate::config::Config;

/// Time limit for the answer of the server.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Difference of the clocks that a token survives: LiveKit's servers allow a minute.
const SKEW_MAX: Duration = Duration::from_secs(60);
/// Difference that is worth a warning.
const SKEW_ODD: Duration = Duration::from_secs(5);

/// What the server said, and our own time then.
struct Facts {
    url: String,
    answer: Result<Probe, ClientError>,
    now_seconds: i64,
}

pub(super) fn examine(config: &Config) -> Vec<Finding> {
    let Some(url) = &config.livekit.url else { return vec![own_dispatcher(config.dispatcher.listen)] };
    let (Some(key), Some(secret)) = (&config.livekit.api_key, &config.livekit.api_secret) else {
        let detail = "LIVEKIT_URL is set, and the API key or the secret is not";
        return vec![Finding::fail("key", detail, "LIVEKIT_API_KEY=… LIVEKIT_API_SECRET=…")];
    };
    let answer = Client::new(url, key.0.clone(), secret.0.clone()).probe(ANSWER_WITHIN);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    judge(&Facts { url: url.clone(), answer, now_seconds: i64::try_from(now).unwrap_or(i64::MAX) })
}

/// Without a server, `run` starts a dispatcher of its own, or joins the one that has the address.
fn own_dispatcher(listen: SocketAddr) -> Finding {
    let at = reachable(listen);
    match TcpListener::bind(listen) {
        Ok(_) => Finding::ok("server", format!("none is set; `run` starts a dispatcher at {at}")),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Finding::warn(
            "server",
            format!(
                "none is set, and another process has the address of the dispatcher, {at}; `run` joins it where it is a dispatcher"
            ),
            "LIVEKIT_URL=… for a LiveKit server, or WASM_WORKER_LISTEN=127.0.0.1:7881",
        ),
        Err(error) => Finding::fail(
            "server",
            format!("none is set, and a dispatcher cannot listen at {at}: {error}"),
            "WASM_WORKER_LISTEN=127.0.0.1:7880",
        ),
    }
}

fn judge(facts: &Facts) -> Vec<Finding> {
    let Facts { url, answer, now_seconds } = facts;
    let key_fix = "LIVEKIT_API_KEY=… LIVEKIT_API_SECRET=…";
    let probe = match answer {
        Ok(probe) => probe,
        Err(error @ ClientError::Token { .. }) => return vec![Finding::fail("key", error.to_string(), key_fix)],
        Err(error) => return vec![Finding::fail("server", error.to_string(), "LIVEKIT_URL=…")],
    };
    let mut findings = vec![Finding::ok("server", format!("`{url}` answers"))];
    findings.push(match probe.status {
        200 => Finding::ok("key", "the server accepts it"),
        401 | 403 => Finding::fail("key", format!("the server refuses it: {}", probe.why), key_fix),
        status => {
            let detail = format!("`{url}` answers {status} to a call of LiveKit's API: {}", probe.why);
            Finding::fail("key", detail, "LIVEKIT_URL=…")
        }
    });
    findings.extend(probe.date_seconds.map(|date| clock(*now_seconds - date)));
    findings
}

/// `ahead` is how far our clock is ahead of the server's.
fn clock(ahead_seconds: i64) -> Finding {
    let apart = Duration::from_secs(ahead_seconds.unsigned_abs());
    let detail = match ahead_seconds {
        ..0 => format!("{} s behind the server's", apart.as_secs()),
        0 => "equal to the server's".into(),
        1.. => format!("{} s ahead of the server's", apart.as_secs()),
    };
    let fix = "timedatectl set-ntp true";
    if apart > SKEW_MAX {
        Finding::fail("clock", format!("{detail}: tokens are refused"), fix)
    } else if apart > SKEW_ODD {
        Finding::warn("clock", detail, fix)
    } else {
        Finding::ok("clock", detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    fn found(answer: Result<Probe, ClientError>) -> Vec<(&'static str, Level)> {
        let facts = Facts { url: "wss://x".into(), answer, now_seconds: 1_000 };
        judge(&facts).into_iter().map(|finding| (finding.check, finding.level)).collect()
    }

    fn probe(status: u16, date_seconds: Option<i64>) -> Result<Probe, ClientError> {
        Ok(Probe { status, why: "because".into(), date_seconds })
    }

    #[test]
    fn a_server_a_key_and_a_clock_are_told_apart() {
        use Level::{Fail, Ok, Warn};
        assert_eq!(found(probe(200, Some(1_000))), [("server", Ok), ("key", Ok), ("clock", Ok)]);
        assert_eq!(found(probe(200, None)), [("server", Ok), ("key", Ok)]);
        assert_eq!(found(probe(401, Some(1_090))), [("server", Ok), ("key", Fail), ("clock", Fail)]);
        assert_eq!(found(probe(200, Some(990))), [("server", Ok), ("key", Ok), ("clock", Warn)]);
        assert_eq!(found(probe(404, None)), [("server", Ok), ("key", Fail)]);
        let gone = ClientError::Unreachable { url: "wss://x".into(), why: "refused".into() };
        assert_eq!(found(Err(gone)), [("server", Fail)]);
    }

    #[test]
    fn the_address_of_the_own_dispatcher_is_tried() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        assert_eq!(own_dispatcher(address).level, Level::Warn);
        drop(taken);
        assert_eq!(own_dispatcher(address).level, Level::Ok);
        assert_eq!(own_dispatcher("192.0.2.1:7880".parse().unwrap()).level, Level::Fail);
    }
}
