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
    /// Choose the delivery of a topic, or with an empty one of all that were not named. A choice beyond the bound has no
    /// effect.
    pub(super) fn choose(&mut self, topic: String, receipt: Receipt) {
        if topic.is_empty() {
            self.others = receipt;
        } else if self.named.len() < TOPICS_MAX || self.named.contains_key(&topic) {
            self.named.insert(topic, receipt);
        }
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
        receipts.choose("a".into(), Receipt::Parts);
        receipts.choose(String::new(), Receipt::None);
        assert_eq!((receipts.of("a"), receipts.of("b")), (Receipt::Parts, Receipt::None));
        (0..2 * TOPICS_MAX).for_each(|number| receipts.choose(number.to_string(), Receipt::Whole));
        assert_eq!(
            (receipts.of("0"), receipts.of("2000"), receipts.named.len()),
            (Receipt::Whole, Receipt::None, TOPICS_MAX)
        );
        receipts.choose("a".into(), Receipt::None);
        assert_eq!(receipts.of("a"), Receipt::None, "a choice may change");
    }
}
