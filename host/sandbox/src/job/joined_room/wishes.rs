//! What the agent chose before there was a room, and a room that is opened anew needs again.
//!
//! Bounds: all of it is charged to the job.

use std::collections::{BTreeMap, BTreeSet};

use wasm_worker_core::room::command::{Command, Receipt};
use wasm_worker_core::text::text_bytes;

use super::super::world::JobAccess;
use crate::guest::kill::Kill;

/// The choices of one agent. Its attributes are in the record of its job.
#[derive(Default)]
pub(super) struct Wishes {
    /// The name; empty: that of the acceptance.
    pub(super) name: String,
    /// The metadata; empty: those of the acceptance.
    pub(super) metadata: String,
    /// The names of the attributes of the acceptance.
    accepted: BTreeSet<String>,
    /// Those of them that the agent removed.
    removed: BTreeSet<String>,
    receipts: BTreeMap<String, Receipt>,
}

impl Wishes {
    /// The choices of an agent whose acceptance has attributes of these names.
    pub(super) fn new(accepted: impl Iterator<Item = String>) -> Self {
        Self { accepted: accepted.collect(), ..Self::default() }
    }

    /// Keep the name.
    pub(super) fn set_name(&mut self, name: &str, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        replace(&mut self.name, name, job)
    }

    /// Keep the metadata.
    pub(super) fn set_metadata(&mut self, metadata: &str, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        replace(&mut self.metadata, metadata, job)
    }

    /// An attribute was set or, where the value is empty, removed.
    pub(super) fn set_attribute(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.removed.remove(name);
        } else if self.accepted.contains(name) {
            self.removed.insert(name.to_owned());
        }
    }

    /// Keep the delivery of a topic.
    pub(super) fn receive(&mut self, topic: &str, receipt: Receipt, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        if let Some(kept) = self.receipts.get_mut(topic) {
            *kept = receipt;
            return Ok(());
        }
        job.meter.charge(text_bytes(topic) + size_of::<Receipt>())?;
        self.receipts.insert(topic.to_owned(), receipt);
        Ok(())
    }

    /// The commands that a room needs before it is joined.
    pub(super) fn before_join(&self) -> impl Iterator<Item = Command> {
        self.receipts.iter().map(|(topic, receipt)| Command::Receive { topic: topic.clone(), receipt: *receipt })
    }

    /// The command that a room needs as soon as it is being joined: the token gives these attributes to the agent.
    pub(super) fn after_join(&self) -> Option<Command> {
        let attributes: Vec<_> = self.removed.iter().map(|name| (name.clone(), String::new())).collect();
        (!attributes.is_empty()).then_some(Command::SetAttributes { id: 0, attributes })
    }
}

fn replace(kept: &mut String, new: &str, job: &mut JobAccess<'_>) -> Result<(), Kill> {
    job.meter.release(kept.len());
    job.meter.charge(new.len())?;
    new.clone_into(kept);
    Ok(())
}
