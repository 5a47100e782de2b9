//! Tries to read files and to use the network, neither of which an agent has, and says what came of it.

use std::fmt::Debug;
use std::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};

use wasm_worker_sdk::{Agent, JobContext, Result};

#[derive(Default)]
struct Closed;

fn outcome<T: Debug>(tried: std::io::Result<T>) -> String {
    tried.map_or_else(|error| format!("{:?}", error.kind()), |gotten| format!("got {gotten:?}"))
}

impl Agent for Closed {
    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        let tried = [
            ("open", outcome(std::fs::File::open("/etc/passwd"))),
            ("create", outcome(std::fs::File::create("/tmp/closed"))),
            ("list", outcome(std::fs::read_dir("/"))),
            ("connect", outcome(TcpStream::connect("127.0.0.1:1"))),
            ("listen", outcome(TcpListener::bind("127.0.0.1:0"))),
            ("datagram", outcome(UdpSocket::bind("127.0.0.1:0"))),
            ("look-up", outcome("localhost:1".to_socket_addrs().map(|addresses| addresses.count()))),
        ];
        ctx.connect().await?;
        for (what, outcome) in tried {
            ctx.send_text(what, &outcome)?;
        }
        Ok(())
    }
}

wasm_worker_sdk::agent!(Closed);
