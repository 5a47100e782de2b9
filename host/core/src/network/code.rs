//! The codes of failures of HTTP and of sockets, each with its meaning and advice.

/// A code of [`Failure`](super::event::Failure).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailureCode {
    /// The spelling that agents see.
    pub code: &'static str,
    /// The meaning, in one line.
    pub meaning: &'static str,
    /// Advice for the reader, for `wasm-worker explain`.
    pub advice: &'static str,
}

/// Every code of the network, those of the rules first.
pub const FAILURE_CODES: [FailureCode; 12] = [
    FailureCode {
        code: "not-allowed",
        meaning: "the operator has not allowed this host to the agent, or a name leads to an address that is not public",
        advice: "the message of the failure ends with the line to add. In a command it is `--allow-host HOST`; in the \
                 configuration file it is `allow-host = [\"HOST\"]` in the table `[agents.NAME]`. An agent that is run from its \
                 directory gets the hosts of its `agent.toml`. A private address needs a line of its own, such as \
                 `--allow-host 10.0.0.7`",
    },
    FailureCode {
        code: "invalid",
        meaning: "the request is none: its URL, method or headers break the rules",
        advice: "correct the agent; the message names the part",
    },
    FailureCode {
        code: "not-supported",
        meaning: "the server uses something that the host does not have, such as an encoding that was not asked for",
        advice: "ask the server for another form, or use another server",
    },
    FailureCode {
        code: "limit",
        meaning: "the job has 64 requests and sockets open, or the agent's connections to one server were all in use for 30 s",
        advice: "wait for one before the next; drop answers that are not read",
    },
    FailureCode {
        code: "too-large",
        meaning: "the head, the body or a message is larger than its bound, or a compressed body grows too much",
        advice: "ask for less; host/docs/network.md lists the bounds",
    },
    FailureCode {
        code: "timeout",
        meaning: "the connection, the answer or the next part of it did not come in time",
        advice: "try again; check the server, and the firewalls between",
    },
    FailureCode {
        code: "refused",
        meaning: "nothing listens at the port, or the server refused the WebSocket; the failure then has its status",
        advice: "check the host and the port; for a WebSocket the path and the key",
    },
    FailureCode {
        code: "unavailable",
        meaning: "the name is unknown, the connection was lost, or a secret of the request cannot be read",
        advice: "try again; check the host, and the log of the worker",
    },
    FailureCode {
        code: "tls",
        meaning: "the server has no certificate that is trusted for its name, or speaks no TLS",
        advice: "use the name of the certificate; name a private CA by SSL_CERT_FILE",
    },
    FailureCode {
        code: "malformed",
        meaning: "the server breaks the rules of HTTP, of WebSocket or of an encoding",
        advice: "check that the port speaks HTTP; report it to the owner of the server",
    },
    FailureCode {
        code: "redirect",
        meaning: "a redirect leads nowhere: too many of them, a URL that is none, or a body that was written in parts",
        advice: "use the URL that the server redirects to",
    },
    FailureCode {
        code: "fault",
        meaning: "a bug of the host, or the end of the worker",
        advice: "report it, with the log of the worker",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_is_there_once() {
        let codes: std::collections::BTreeSet<_> = FAILURE_CODES.iter().map(|code| code.code).collect();
        assert_eq!(codes.len(), FAILURE_CODES.len());
    }
}
