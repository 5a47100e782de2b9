//! The facts of a text or a file: LiveKit's header, and the contract's attributes for what has no field. Pure.

use std::collections::{BTreeMap, HashMap};

use livekit_protocol as proto;
use proto::data_stream::header::ContentHeader;
use proto::data_stream::{Header, OperationType, TextHeader};

use super::shared::Refusal;
use crate::wire::{self, CONTRACT};
use wasm_worker_core::room::event::StreamInfo;
use wasm_worker_core::room::people::Attributes;

/// A change of an earlier text: `update`, `delete` or `reaction`.
const OPERATION: &str = "@operation";
/// The version of a text that changes.
const VERSION: &str = "@version";
/// The ids of the files that belong to a text, with commas between them.
const ATTACHED: &str = "@attached";
/// Whether an agent made the text: `true`.
const GENERATED: &str = "@generated";

/// The type of a text.
pub(super) const TEXT: &str = "text/plain";
/// The type of a file that tells none.
pub(super) const BYTES: &str = "application/octet-stream";

/// The facts that a header tells, and whether it is of a text. None where it is of something else.
pub(super) fn info(header: Header, sender: Option<String>) -> Option<(StreamInfo, bool)> {
    let mut attributes = wire::attributes(&header.attributes);
    let (name, reply_to, is_text) = match header.content_header? {
        ContentHeader::TextHeader(text) => {
            attributes.extend(facts(&text));
            (String::new(), text.reply_to_stream_id, true)
        }
        ContentHeader::ByteHeader(file) => (file.name, String::new(), false),
    };
    let info = StreamInfo {
        stream_id: header.stream_id,
        sender,
        topic: header.topic,
        name,
        mime_type: header.mime_type,
        attributes,
        timestamp_ms: milliseconds(header.timestamp),
        size: header.total_length,
        reply_to,
    };
    Some((info, is_text))
}

fn facts(text: &TextHeader) -> Attributes {
    let mut facts = Attributes::new();
    let mut fact = |name: &str, value: String| facts.push((name.to_owned(), value));
    match OperationType::try_from(text.operation_type) {
        Ok(OperationType::Update) => fact(OPERATION, "update".into()),
        Ok(OperationType::Delete) => fact(OPERATION, "delete".into()),
        Ok(OperationType::Reaction) => fact(OPERATION, "reaction".into()),
        Ok(OperationType::Create) | Err(_) => {}
    }
    if text.version != 0 {
        fact(VERSION, text.version.to_string());
    }
    if !text.attached_stream_ids.is_empty() {
        fact(ATTACHED, text.attached_stream_ids.join(","));
    }
    if text.generated {
        fact(GENERATED, "true".into());
    }
    facts
}

/// The header of a text with these attributes, and the attributes without the contract's.
pub(super) fn text_header(
    attributes: Attributes,
    reply_to: String,
) -> Result<(TextHeader, HashMap<String, String>), Refusal> {
    let mut header = TextHeader { reply_to_stream_id: reply_to, ..Default::default() };
    for (name, value) in &attributes {
        match name.as_str() {
            OPERATION => {
                header.operation_type = match value.as_str() {
                    "" | "create" => OperationType::Create,
                    "update" => OperationType::Update,
                    "delete" => OperationType::Delete,
                    "reaction" => OperationType::Reaction,
                    _ => return Err(("invalid", "`@operation` is none of `create`, `update`, `delete`, `reaction`")),
                } as i32;
            }
            VERSION => header.version = value.parse().map_err(|_| ("invalid", "`@version` is no number"))?,
            ATTACHED => {
                let ids = value.split(',').map(str::trim).filter(|id| !id.is_empty());
                header.attached_stream_ids = ids.map(str::to_owned).collect();
            }
            GENERATED => header.generated = value == "true",
            _ => {}
        }
    }
    Ok((header, foreign(attributes)))
}

/// The attributes that go out: those whose names are the contract's do not.
pub(super) fn foreign(attributes: Attributes) -> HashMap<String, String> {
    attributes.into_iter().filter(|(name, _)| !name.starts_with(CONTRACT)).collect()
}

/// Put the attributes of a trailer over those of the header. Strangers choose their numbers.
pub(super) fn merge(attributes: &mut Attributes, trailer: Attributes) {
    let mut newer: BTreeMap<String, String> = trailer.into_iter().collect();
    for (name, value) in attributes.iter_mut() {
        if let Some(newer) = newer.remove(name) {
            *value = newer;
        }
    }
    attributes.extend(newer);
}

#[expect(clippy::cast_precision_loss, reason = "times of this era are far below 2^53 ms")]
fn milliseconds(timestamp: i64) -> f64 {
    timestamp as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> Attributes {
        pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    #[test]
    fn what_has_a_field_goes_there_and_comes_back() {
        let own = [("@operation", "update"), ("@version", "3"), ("@attached", "f1,f2"), ("@generated", "true")];
        let all: Vec<_> = [("a", "1"), ("@unknown", "x")].into_iter().chain(own).collect();
        let (text, attributes) = text_header(pairs(&all), "first".into()).unwrap();
        assert_eq!(attributes, HashMap::from([("a".to_owned(), "1".to_owned())]));
        let header = Header {
            attributes: [("a".into(), "1".into()), ("@version".into(), "99".into())].into(),
            content_header: Some(ContentHeader::TextHeader(text)),
            timestamp: 7,
            ..Default::default()
        };
        let (info, is_text) = info(header, None).unwrap();
        assert!(is_text);
        let expected: Vec<_> = [("a", "1")].into_iter().chain(own).collect();
        assert_eq!(info.attributes, pairs(&expected), "names of the contract do not come from outside");
        assert_eq!((info.reply_to.as_str(), info.timestamp_ms), ("first", 7.0));
    }

    #[test]
    fn wrong_facts_are_refused() {
        for wrong in [("@operation", "shout"), ("@version", "x"), ("@version", "99999999999")] {
            assert_eq!(text_header(pairs(&[wrong]), String::new()).unwrap_err().0, "invalid");
        }
        assert!(info(Header::default(), None).is_none(), "neither a text nor a file");
    }

    #[test]
    fn a_trailer_overwrites() {
        let mut attributes = pairs(&[("a", "1"), ("b", "2")]);
        merge(&mut attributes, pairs(&[("b", "3"), ("c", "4")]));
        assert_eq!(attributes, pairs(&[("a", "1"), ("b", "3"), ("c", "4")]));
    }
}
