//! The calls of HTTP and of sockets as commands of the network, and what the network tells as events of the contract. Pure.

use std::time::Duration;

use wasm_worker_core::network::command::{Command, HttpRequest, SocketRequest};
use wasm_worker_core::network::event::{EVENT_CHARGE, NetworkEvent, headers_bytes};

use crate::guest::bindings::wasm_worker::agent::events::{
    Event, Failure, HttpBody, HttpHead, SocketBytes, SocketClosed, SocketOpened, SocketText,
};
use crate::guest::bindings::wasm_worker::agent::http::Request;
use crate::guest::calls::Call;

/// The command for a call. A call that is none of the network's is given back.
#[expect(clippy::result_large_err, reason = "a call is moved on, whichever way it goes")]
pub(super) fn command_of(call: Call) -> Result<Command, Call> {
    Ok(match call {
        Call::SendHttp { id, request } => Command::Send { id, request: request_of(request) },
        Call::OpenHttp { id, request } => Command::Open { id, request: request_of(request) },
        Call::WriteHttp { id, bytes } => Command::Write { id, bytes },
        Call::EndHttp { id } => Command::End { id },
        Call::ConnectSocket { id, url, headers, protocols, timeout_ms } => {
            let timeout = Duration::from_millis(timeout_ms.into());
            Command::Connect { id, request: SocketRequest { url, headers, protocols, timeout } }
        }
        Call::SendSocketText { id, text } => Command::SendText { id, text },
        Call::SendSocketBytes { id, bytes } => Command::SendBytes { id, bytes },
        Call::CloseSocket { id, code, reason } => Command::Close { id, code, reason },
        call => return Err(call),
    })
}

/// Whether a request may be sent again after its worker was lost is no concern of the network that sends it.
fn request_of(request: Request) -> HttpRequest {
    let Request { method, url, headers, body, timeout_ms, follow_redirects, repeatable: _ } = request;
    HttpRequest { method, url, headers, body, timeout: Duration::from_millis(timeout_ms.into()), follow_redirects }
}

/// An event as the contract has it.
pub(super) fn event_of(event: NetworkEvent) -> Event {
    match event {
        NetworkEvent::Head { id, head } => {
            Event::HttpHead(HttpHead { id, status: head.status, url: head.url, headers: head.headers })
        }
        NetworkEvent::Body { id, bytes, last } => Event::HttpBody(HttpBody { id, bytes, last }),
        NetworkEvent::Opened { id, protocol, headers } => Event::SocketOpened(SocketOpened { id, protocol, headers }),
        NetworkEvent::Text { id, text } => Event::SocketText(SocketText { id, text }),
        NetworkEvent::Bytes { id, bytes } => Event::SocketBytes(SocketBytes { id, bytes }),
        NetworkEvent::Closed { id, code, reason } => Event::SocketClosed(SocketClosed { id, code, reason }),
        NetworkEvent::Writable { id } => Event::Writable(id),
        NetworkEvent::Failed { id, failure } => {
            let (code, status, message) = (failure.code.into(), failure.status, failure.message);
            Event::Failed(Failure { id, code, status, message })
        }
    }
}

/// What an event counted against the bytes that are read ahead; see [`NetworkEvent::charge`].
pub(super) fn charge_of(event: &Event) -> usize {
    let content = match event {
        Event::HttpHead(head) => head.url.len() + headers_bytes(&head.headers),
        Event::HttpBody(body) => body.bytes.len(),
        Event::SocketOpened(opened) => opened.protocol.len() + headers_bytes(&opened.headers),
        Event::SocketText(text) => text.text.len(),
        Event::SocketBytes(bytes) => bytes.bytes.len(),
        Event::SocketClosed(closed) => closed.reason.len(),
        Event::Failed(failure) => failure.message.len(),
        _ => 0,
    };
    EVENT_CHARGE + content
}

#[cfg(test)]
mod tests {
    use wasm_worker_core::network::event::{Failure as NetworkFailure, Head};

    use super::*;
    use crate::guest::events::id_of;

    #[test]
    fn every_call_of_the_network_becomes_its_command() {
        let (url, headers) = (String::from("https://a.test/"), vec![("a".to_owned(), "b".to_owned())]);
        let request = Request {
            method: "POST".into(),
            url: url.clone(),
            headers: headers.clone(),
            body: vec![1],
            timeout_ms: 1_500,
            follow_redirects: true,
            repeatable: true,
        };
        let timeout = Duration::from_millis(1_500);
        let wanted = HttpRequest {
            method: "POST".into(),
            url: url.clone(),
            headers: headers.clone(),
            body: vec![1],
            timeout,
            follow_redirects: true,
        };
        let (protocols, text) = (vec!["p".to_owned()], String::from("text"));
        let socket =
            SocketRequest { url: url.clone(), headers: headers.clone(), protocols: protocols.clone(), timeout };
        let pairs = [
            (Call::SendHttp { id: 1, request: request.clone() }, Command::Send { id: 1, request: wanted.clone() }),
            (Call::OpenHttp { id: 2, request }, Command::Open { id: 2, request: wanted }),
            (Call::WriteHttp { id: 2, bytes: vec![2] }, Command::Write { id: 2, bytes: vec![2] }),
            (Call::EndHttp { id: 2 }, Command::End { id: 2 }),
            (
                Call::ConnectSocket { id: 3, url, headers, protocols, timeout_ms: 1_500 },
                Command::Connect { id: 3, request: socket },
            ),
            (Call::SendSocketText { id: 3, text: text.clone() }, Command::SendText { id: 3, text: text.clone() }),
            (Call::SendSocketBytes { id: 3, bytes: vec![3] }, Command::SendBytes { id: 3, bytes: vec![3] }),
            (
                Call::CloseSocket { id: 3, code: 1_000, reason: text.clone() },
                Command::Close { id: 3, code: 1_000, reason: text },
            ),
        ];
        for (call, command) in pairs {
            assert_eq!(command_of(call), Ok(command));
        }
        assert_eq!(command_of(Call::Disconnect), Err(Call::Disconnect));
    }

    #[test]
    fn every_event_keeps_its_operation_and_its_charge() {
        let (text, headers) = (String::from("text"), vec![("a".to_owned(), "b".to_owned())]);
        let failure = NetworkFailure { code: "timeout", status: 0, message: text.clone() };
        let head = Head { status: 200, url: text.clone(), headers: headers.clone() };
        for event in [
            NetworkEvent::Head { id: 7, head },
            NetworkEvent::Body { id: 7, bytes: vec![0; 9], last: true },
            NetworkEvent::Opened { id: 7, protocol: text.clone(), headers },
            NetworkEvent::Text { id: 7, text: text.clone() },
            NetworkEvent::Bytes { id: 7, bytes: vec![0; 5] },
            NetworkEvent::Closed { id: 7, code: 1_006, reason: text },
            NetworkEvent::Writable { id: 7 },
            NetworkEvent::Failed { id: 7, failure },
        ] {
            let (charge, is_last) = (event.charge(), event.is_last());
            let event = event_of(event);
            assert_eq!((id_of(&event), charge_of(&event)), (7, charge), "{event:?}");
            assert_eq!(crate::guest::events::is_last(&event), is_last, "{event:?}");
        }
    }
}
