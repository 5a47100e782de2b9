//! A receiver of webhooks.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

use serde_json::Value;

/// A post: its head, and its body.
pub(crate) fn read_post(stream: &mut BufReader<TcpStream>) -> Option<(String, String)> {
    let mut head = String::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            break;
        }
        head.push_str(&line);
    }
    let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok())?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((head, String::from_utf8(body).unwrap()))
}

pub(crate) fn header<'a>(head: &'a str, name: &str) -> &'a str {
    let found = head.lines().find(|line| line.to_lowercase().starts_with(&format!("{name}: ")));
    found.unwrap().split_once(": ").unwrap().1
}

/// A receiver of events: its URL, and the posts that it accepted.
pub(crate) fn hook() -> (String, std::sync::mpsc::Receiver<(String, String)>) {
    let hook = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", hook.local_addr().unwrap());
    let (posts, received) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        // What is not taken at first is posted again.
        let mut refuse = true;
        for stream in hook.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            while let Some(post) = read_post(&mut stream) {
                let status = if refuse { "500 Try Again" } else { "200 OK" };
                // Before the answer: whoever sees the program go on finds its posts here.
                if !std::mem::replace(&mut refuse, false) && posts.send(post).is_err() {
                    return;
                }
                stream
                    .get_mut()
                    .write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").as_bytes())
                    .unwrap();
            }
        }
    });
    (url, received)
}

/// A receiver of events that accepts each, by any number of connections: its URL, and the bodies.
pub(crate) fn patient_hook() -> (String, std::sync::mpsc::Receiver<Value>) {
    let hook = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", hook.local_addr().unwrap());
    let (posts, received) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in hook.incoming() {
            let (mut stream, posts) = (BufReader::new(stream.unwrap()), posts.clone());
            std::thread::spawn(move || {
                while let Some((_, body)) = read_post(&mut stream) {
                    let is_taken = posts.send(serde_json::from_str(&body).unwrap()).is_ok();
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                    if !is_taken || stream.get_mut().write_all(answer).is_err() {
                        return;
                    }
                }
            });
        }
    });
    (url, received)
}
