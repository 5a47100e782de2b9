//! The labels of metrics.

use prometheus_client::encoding::EncodeLabelSet;

/// The label of a metric of one agent.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct AgentLabel {
    pub(super) agent: String,
}

/// The labels of ended jobs.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct JobEndLabels {
    pub(super) agent: String,
    pub(super) code: &'static str,
    pub(super) blame: &'static str,
}

/// The labels of ended dispatches.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct DispatchEndLabels {
    pub(super) agent: String,
    pub(super) code: &'static str,
}

/// The labels of refused offers.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct RefusalLabels {
    pub(super) agent: String,
    pub(super) reason: &'static str,
}

/// The label of a metric of one sink.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct SinkLabel {
    pub(super) sink: &'static str,
}

/// The label of a metric of one resource.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct ResourceLabel {
    pub(super) resource: &'static str,
}
