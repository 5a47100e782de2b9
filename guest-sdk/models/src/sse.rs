//! Server-sent events, as the HTML standard defines their stream, and a little more: the last event needs no empty line
//! after it. The parser takes bytes as they come, cut anywhere.

use std::fmt;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SseEvent {
    /// Its type; empty: `message`.
    pub event: String,
    /// Its data: the lines of all `data` fields.
    pub data: String,
    /// The id that its server gave it; empty: none.
    pub id: String,
}

/// The error of a line or an event that is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong {
    /// The bound in bytes.
    pub bytes_max: usize,
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "an event of the stream has more than {} bytes", self.bytes_max)
    }
}

impl std::error::Error for TooLong {}

/// The parser of one stream.
///
/// ```
/// use wasm_worker_models::sse::Parser;
/// let mut parser = Parser::new(1 << 20);
/// assert!(parser.feed(b": a comment\r\ndata:on").unwrap().is_empty());
/// let events = parser.feed(b"e\r\ndata: two\r\n\r\n").unwrap();
/// assert_eq!(events[0].data, "one\ntwo");
/// ```
#[derive(Debug)]
pub struct Parser {
    place: Place,
    /// The line that is not complete.
    line: Vec<u8>,
    /// The event that is not complete, without its data.
    event: SseEvent,
    /// Its data. Without a `data` field it is no event.
    data: Option<String>,
    bytes_max: usize,
}

/// Where in the stream the parser is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In the first line, which may begin with a byte order mark.
    FirstLine,
    /// After a CR, which an LF may follow.
    AfterCr,
    Line,
}

impl Parser {
    /// A parser for events of at most `bytes_max`, each line and the data of each event.
    pub fn new(bytes_max: usize) -> Self {
        let event = SseEvent::default();
        Self { place: Place::FirstLine, line: Vec::new(), event, data: None, bytes_max }
    }

    /// Takes bytes, and returns the events that they complete.
    ///
    /// # Errors
    ///
    /// A line or an event is too long. The stream is of no use then.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<Vec<SseEvent>, TooLong> {
        let mut events = Vec::new();
        while let Some((first, after_first)) = bytes.split_first() {
            if self.place == Place::AfterCr {
                self.place = Place::Line;
                if *first == b'\n' {
                    bytes = after_first;
                    continue;
                }
            }
            let end = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let (part, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
            self.check(self.line.len() + part.len())?;
            self.line.extend_from_slice(part);
            bytes = rest;
            if let Some((ending, after)) = rest.split_first() {
                events.extend(self.end_line()?);
                self.place = if *ending == b'\r' { Place::AfterCr } else { Place::Line };
                bytes = after;
            }
        }
        Ok(events)
    }

    /// Ends the stream, and returns the event that no empty line has ended.
    ///
    /// # Errors
    ///
    /// The event is too long.
    pub fn finish(mut self) -> Result<Option<SseEvent>, TooLong> {
        if !self.line.is_empty() {
            self.end_line()?;
        }
        Ok(self.end_event())
    }

    fn end_line(&mut self) -> Result<Option<SseEvent>, TooLong> {
        let bytes = std::mem::take(&mut self.line);
        let text = String::from_utf8_lossy(&bytes);
        let mut line = text.as_ref();
        if self.place == Place::FirstLine {
            line = line.strip_prefix('\u{feff}').unwrap_or(line);
        }
        if line.is_empty() {
            return Ok(self.end_event());
        }
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "data" => self.add_data(value)?,
            "event" => value.clone_into(&mut self.event.event),
            "id" => value.clone_into(&mut self.event.id),
            // Comments have an empty name. Nothing here connects again, so `retry` means nothing.
            _ => {}
        }
        Ok(None)
    }

    fn add_data(&mut self, value: &str) -> Result<(), TooLong> {
        self.check(self.data.as_ref().map_or(0, String::len) + value.len())?;
        match &mut self.data {
            Some(data) => {
                data.push('\n');
                data.push_str(value);
            }
            None => self.data = Some(value.to_owned()),
        }
        Ok(())
    }

    fn end_event(&mut self) -> Option<SseEvent> {
        let event = std::mem::take(&mut self.event);
        self.data.take().map(|data| SseEvent { data, ..event })
    }

    fn check(&self, bytes: usize) -> Result<(), TooLong> {
        if bytes > self.bytes_max { Err(TooLong { bytes_max: self.bytes_max }) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(parts: &[&[u8]]) -> Vec<String> {
        let mut parser = Parser::new(100);
        let mut events: Vec<SseEvent> = parts.iter().flat_map(|part| parser.feed(part).unwrap()).collect();
        events.extend(parser.finish().unwrap());
        events.into_iter().map(|event| event.data).collect()
    }

    #[test]
    fn stream_means_the_same_wherever_it_is_cut() {
        let text = "\u{feff}:hi\r\ndata: é–𝄞\rdata:b\r\ndata:c\n\nevent: x\r\n\r\n: keep-alive\n\ndata\n\ndata:  two \r\rid: 7\ndata: end";
        let wanted = ["é–𝄞\nb\nc", "", " two ", "end"];
        let bytes = text.as_bytes();
        assert_eq!(data(&[bytes]), wanted);
        for at in 0..=bytes.len() {
            let (before, after) = bytes.split_at(at);
            assert_eq!(data(&[before, after]), wanted, "cut at {at}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(data(&single), wanted);
    }

    #[test]
    fn event_has_a_type_and_an_id_and_they_do_not_last() {
        let mut parser = Parser::new(100);
        let events = parser.feed(b"event: error\nid: 3\ndata: {}\nretry: 10\nother: x\n\ndata: a\n\n").unwrap();
        assert_eq!((events[0].event.as_str(), events[0].id.as_str(), events[0].data.as_str()), ("error", "3", "{}"));
        assert_eq!((events[1].event.as_str(), events[1].id.as_str()), ("", ""));
    }

    #[test]
    fn lines_and_events_are_bounded() {
        let mut parser = Parser::new(10);
        assert_eq!(parser.feed(b"data: 12345"), Err(TooLong { bytes_max: 10 }));
        let mut parser = Parser::new(10);
        assert!(parser.feed(b"data: 1234\n").unwrap().is_empty());
        assert!(parser.feed(b"data: 1234\n").unwrap().is_empty());
        assert!(parser.feed(b"data: 1234\n").is_err());
        // Comments without end are lines of a bounded length each, and nothing is kept.
        let mut parser = Parser::new(10);
        for _ in 0..1_000 {
            assert!(parser.feed(b": ping\n").unwrap().is_empty());
        }
        assert!(parser.line.is_empty());
    }

    #[test]
    fn bytes_that_are_no_text_become_replacement_characters() {
        assert_eq!(data(&[b"data: a\xffb\n\n"]), ["a\u{fffd}b"]);
    }
}
