//! The JSON of protobuf messages, in all forms that its specification allows.
//!
//! The generated decoders of LiveKit's messages refuse two forms: `null` for a field that is absent, and a whole number that is
//! written as `3e2` or `300.0`. A request that they refuse is read again without these forms.
//!
//! Bounds: a request of more than [`REWRITTEN_BYTES_MAX`] is not read again.

use std::fmt;

use serde::de::{DeserializeOwned, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// Largest request that is read again, in bytes. Its values take up to 32 times as much memory.
const REWRITTEN_BYTES_MAX: usize = 1 << 20;
/// The field whose values are a map of texts. A map has no absent values, so `null` is an error there.
const MAP_FIELD: &str = "attributes";

/// The message in a JSON text.
pub(crate) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, serde_json::Error> {
    let error = match serde_json::from_slice(bytes) {
        Ok(message) => return Ok(message),
        Err(error) => error,
    };
    if bytes.len() > REWRITTEN_BYTES_MAX {
        return Err(error);
    }
    let Ok(Plain(value)) = serde_json::from_slice(bytes) else { return Err(error) };
    serde_json::from_value(value).map_err(|_| error)
}

/// A value whose objects have no `null`, and whose whole numbers are integers.
struct Plain(Value);

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PlainVisitor).map(Self)
    }
}

struct PlainVisitor;

impl<'de> Visitor<'de> for PlainVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        // Whole numbers up to 2^53 have an exact text without a fraction.
        let whole = value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0;
        let integer = whole.then(|| format!("{value:.0}").parse::<i64>().ok()).flatten();
        Ok(integer.map_or_else(|| Value::from(value), Value::from))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Plain(value)) = items.next_element()? {
            values.push(value);
        }
        Ok(values.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = entries.next_key::<String>()? {
            let value = match name == MAP_FIELD {
                true => entries.next_value::<Value>()?,
                false => entries.next_value::<Plain>()?.0,
            };
            if value.is_null() {
                continue;
            }
            if map.contains_key(&name) {
                return Err(A::Error::custom(format!("duplicate field `{name}`")));
            }
            map.insert(name, value);
        }
        Ok(map.into())
    }
}

#[cfg(test)]
mod tests {
    use livekit_protocol::{CreateAgentDispatchRequest, CreateRoomRequest, ListRoomsRequest};

    use super::*;

    #[test]
    fn null_is_an_absent_field() {
        let text = br#"{"room":"r","agentName":null,"metadata":null,"attributes":null,"restartPolicy":null}"#;
        let request: CreateAgentDispatchRequest = read(text).unwrap();
        assert_eq!((request.room.as_str(), request.agent_name.as_str()), ("r", ""));
        let room: CreateRoomRequest = read(br#"{"name":"n","emptyTimeout":null,"agents":null,"egress":null}"#).unwrap();
        assert_eq!((room.name.as_str(), room.empty_timeout), ("n", 0));
        // Lists and maps have no absent values.
        assert!(read::<ListRoomsRequest>(br#"{"names":[null]}"#).is_err());
        assert!(read::<CreateAgentDispatchRequest>(br#"{"room":"r","attributes":{"a":null}}"#).is_err());
    }

    #[test]
    fn whole_numbers_may_have_an_exponent_a_fraction_or_quotes() {
        for number in ["300", "3e2", "300.0", "\"300\""] {
            let text = format!(r#"{{"name":"n","emptyTimeout":{number}}}"#);
            assert_eq!(read::<CreateRoomRequest>(text.as_bytes()).unwrap().empty_timeout, 300, "{number}");
        }
        for bad in ["300.5", "-1", "1e99", "true", "[]"] {
            let text = format!(r#"{{"name":"n","emptyTimeout":{bad}}}"#);
            assert!(read::<CreateRoomRequest>(text.as_bytes()).is_err(), "{bad}");
        }
        let policy: CreateAgentDispatchRequest = read(br#"{"room":"r","restartPolicy":1.0}"#).unwrap();
        assert_eq!(policy.restart_policy, 1);
    }

    #[test]
    fn repeated_fields_and_other_faults_stay_errors() {
        for bad in
            [r#"{"room":"a","room":"b"}"#, r#"{"room":null,"room":"a","room":"b"}"#, "{", "", "[]", r#"{"room":7}"#]
        {
            assert!(read::<CreateAgentDispatchRequest>(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
