//! Does what it is asked for by texts: it answers, waits, asks servers and participants, shows states, and ends in many ways.

use std::time::Duration;

use wasm_worker_sdk::types::{AgentState, RpcError, TextMessage};
use wasm_worker_sdk::{Agent, Event, JobContext, Operation, Result, contract, random, spawn, time::sleep};

#[derive(Default)]
struct Concierge;

impl Agent for Concierge {
    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        ctx.register_rpc_method("double", |request| async move {
            match request.payload.parse::<u32>() {
                Ok(number) => Ok((number * 2).to_string()),
                Err(_) => Err(RpcError { code: 1, message: "no number".into(), data: String::new() }),
            }
        });
        ctx.connect().await?;
        ctx.send_text("chat", "welcome")?;
        loop {
            match ctx.next_event().await {
                Event::ParticipantJoined(who) => ctx.send_text("chat", &format!("hello {}", who.identity))?,
                Event::ParticipantLeft(left) => ctx.send_text("chat", &format!("bye {}", left.participant.identity))?,
                Event::Reconnecting => ctx.send_text("chat", "where are you?")?,
                Event::Disconnected(reason) => return Err(format!("lost: {reason}").into()),
                Event::File(file) => ctx.send_text("chat", &format!("got {}", file.info.name))?,
                Event::Data(data) => ctx.send_text("chat", &String::from_utf8_lossy(&data.payload))?,
                Event::ParticipantChanged(change) => {
                    ctx.send_text("chat", &format!("{:?}", change.attributes))?;
                }
                Event::Text(message) if message.text == "end" => return Ok(()),
                Event::Text(message) => {
                    let there = ctx.clone();
                    drop(spawn("request", async move { serve(&there, message).await }));
                }
                Event::ShutdownRequested(_) => return Ok(()),
                _ => {}
            }
        }
    }
}

async fn serve(ctx: &JobContext, message: TextMessage) -> Result {
    let (verb, rest) = message.text.split_once(' ').unwrap_or((&message.text, ""));
    match verb {
        "wait" => {
            sleep(Duration::from_secs(rest.parse()?)).await;
            ctx.send_text("chat", "waited")
        }
        "think" => {
            ctx.set_agent_state(AgentState::Thinking)?;
            ctx.set_attributes([("mood", "good")])?;
            ctx.set_agent_state(AgentState::Listening)
        }
        "get" => ctx.send_text("chat", &get(rest).await),
        "socket" => socket(ctx, rest).await,
        "call" => {
            let answer = ctx.perform_rpc("ann", rest, "?", Duration::from_secs(5)).await;
            ctx.send_text("chat", &answer.unwrap_or_else(|error| format!("{error:?}")))
        }
        "chance" => ctx.send_text("chat", &format!("{:?}", random::bytes(4))),
        "lines" => ctx.send_text("chat", "one\ntwo\nthree"),
        "trap" => panic!("as you wish"),
        "fail" => {
            ctx.shutdown("enough");
            Ok(())
        }
        "spin" => loop {
            sleep(Duration::ZERO).await;
        },
        "burn" => loop {
            std::hint::black_box(0);
        },
        _ => ctx.send_text("chat", &format!("you said {}", message.text)),
    }
}

async fn get(url: &str) -> String {
    let request = contract::http::Request {
        method: "GET".into(),
        url: url.into(),
        headers: Vec::new(),
        body: Vec::new(),
        timeout_ms: 20_000,
        follow_redirects: true,
        repeatable: true,
    };
    let mut answer = Operation::new(contract::http::send(&request), "http.send");
    let (mut status, mut body) = (0, Vec::new());
    while let Some(event) = answer.next().await {
        match event {
            Event::HttpHead(head) => status = head.status,
            Event::HttpBody(part) => body.extend(part.bytes),
            Event::Failed(failure) => return failure.code,
            _ => {}
        }
    }
    format!("{status} {}", String::from_utf8_lossy(&body))
}

async fn socket(ctx: &JobContext, url: &str) -> Result {
    let mut socket = Operation::new(contract::socket::connect(url, &[], &[], 5_000), "socket.connect");
    while let Some(event) = socket.next().await {
        match event {
            Event::SocketOpened(_) => contract::socket::send_text(socket.id(), "ping"),
            Event::SocketText(text) => ctx.send_text("chat", &format!("socket {}", text.text))?,
            Event::SocketClosed(closed) => ctx.send_text("chat", &format!("closed {}", closed.code))?,
            Event::Failed(failure) => ctx.send_text("chat", &format!("{} {}", failure.code, failure.status))?,
            _ => {}
        }
    }
    Ok(())
}

wasm_worker_sdk::agent!(Concierge);
