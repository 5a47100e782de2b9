//! How the texts and files of each topic are delivered. Pure.
//!
//! Bounds: [`TOPICS_MAX`] topics with a delivery of their own.

use std::collections::BTreeMap;

use super::limits::TOPICS_MAX;
use wasm_worker_core::room::command::Receipt;

/// The choices of the agent.
#[derive(Debug, Default)]
pub(super) struct Receipts {
    /// The delivery of topics that were not named.
    others: Receipt,
    named: BTreeMap<String, Receipt>,
}

impl Receipts {
    /// Choose the delivery of a topic, or with an empty one of all that were not named. Whether there was room for it.
    pub(super) fn choose(&mut self, topic: String, receipt: Receipt) -> bool {
        if topic.is_empty() {
            self.others = receipt;
        } else if self.named.len() < TOPICS_MAX || self.named.contains_key(&topic) {
            self.named.insert(topic, receipt);
        } else {
            return false;
        }
        true
    }

    /// The delivery of a topic.
    pub(super) fn of(&self, topic: &str) -> Receipt {
        self.named.get(topic).copied().unwrap_or(self.others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_topic_keeps_its_choice() {
        let mut receipts = Receipts::default();
        assert_eq!(receipts.of("a"), Receipt::Whole);
        assert!(receipts.choose("a".into(), Receipt::Parts) && receipts.choose(String::new(), Receipt::None));
        assert_eq!((receipts.of("a"), receipts.of("b")), (Receipt::Parts, Receipt::None));
        let room = (0..).take_while(|number: &usize| receipts.choose(number.to_string(), Receipt::Whole)).count();
        assert_eq!(room, TOPICS_MAX - 1);
        assert!(receipts.choose("a".into(), Receipt::None), "a choice may change");
    }
}
