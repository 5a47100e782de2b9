//! The jobs of a connection: offers, assignments, terminations, and the reports of their ends.

use std::collections::HashMap;
use std::sync::Arc;

use livekit_protocol as proto;
use proto::worker_message::Message as ToServer;
use tokio::time::Instant;

use wasm_worker_core::job::{Acceptance, RoomAccess};
use wasm_worker_core::refusal::Reason;
use wasm_worker_core::secret::Secret;
use wasm_worker_core::text::{acts_on_terminal, clip};
use wasm_worker_core::verdict::Code;

use super::{ANSWER_WITHIN, Answer, JOB_ID_BYTES_MAX, JOBS_MAX, Link, Output, Phase, RECENT_ENDS_MAX, Session};
use crate::report::{JobEnd, Report};

impl Session {
    /// Set the phase of a job, or remove the job. Returns the former phase. This is the one place where a phase changes.
    fn set_phase(&mut self, job: &str, phase: Option<Phase>) -> Option<Phase> {
        let (id, former): (Arc<str>, _) = match self.jobs.remove_entry(job) {
            Some((id, former)) => (id, Some(former)),
            None => (job.into(), None),
        };
        if let Some(until) = former.and_then(Phase::until) {
            self.deadlines.remove(&(until, id.clone()));
        }
        if let Some(phase) = phase {
            self.deadlines.extend(phase.until().map(|until| (until, id.clone())));
            self.jobs.insert(id, phase);
        }
        former
    }

    fn phase(&self, job: &str) -> Option<Phase> {
        self.jobs.get(job).copied()
    }

    pub(super) fn on_offer(&mut self, now: Instant, request: proto::AvailabilityRequest) -> Vec<Output> {
        let Some(job) = request.job.filter(|job| !job.id.is_empty()) else {
            return vec![Output::Warn("ignored an offer without a job".into())];
        };
        // Ids stand in logs, events and paths.
        if job.id.len() > JOB_ID_BYTES_MAX || job.id.contains(acts_on_terminal) {
            return vec![Output::Warn(
                "ignored an offer of a job whose id is too long, or has control characters".into(),
            )];
        }
        if self.phase(&job.id).is_some() {
            return vec![Output::Warn(format!("ignored a second offer of job {}", job.id))];
        }
        if self.draining {
            return refuse_unasked(job.id, Reason::Draining, "the worker is draining");
        }
        if self.jobs.len() >= JOBS_MAX {
            return refuse_unasked(job.id, Reason::Full, "the connection has the maximum number of jobs");
        }
        self.set_phase(&job.id, Some(Phase::Deciding { until: now + ANSWER_WITHIN }));
        vec![Output::Offer(Box::new(job))]
    }

    pub(super) fn on_answer(&mut self, now: Instant, job: String, answer: Answer) -> Vec<Output> {
        match (self.phase(&job), answer) {
            (Some(Phase::Deciding { .. }), Answer::Accepted(_)) if self.draining => {
                self.set_phase(&job, None);
                vec![refusal(&job, false), Output::Withdraw { job, why: "the worker is draining" }]
            }
            (Some(Phase::Deciding { .. }), Answer::Accepted(acceptance)) => {
                let until = now + self.registration.assignment_within;
                self.set_phase(&job, Some(Phase::Accepted { until }));
                vec![accept(job, &self.registration.agent_name, *acceptance)]
            }
            (Some(Phase::Deciding { .. }), Answer::Refused { terminate }) => {
                self.set_phase(&job, None);
                vec![refusal(&job, terminate)]
            }
            // The session has refused the offer meanwhile, or the connection was lost.
            (_, Answer::Accepted(_)) => vec![Output::Withdraw { job, why: "the agent accepted too late" }],
            (_, Answer::Refused { .. }) => Vec::new(),
        }
    }

    pub(super) fn on_assignment(&mut self, assignment: proto::JobAssignment) -> Vec<Output> {
        let proto::JobAssignment { job, url, token } = assignment;
        let job = job.unwrap_or_default().id;
        if job.len() > JOB_ID_BYTES_MAX {
            return vec![Output::Warn(format!("ignored an assignment of a job whose id has {} bytes", job.len()))];
        }
        match self.phase(&job) {
            Some(Phase::Accepted { .. }) => {
                self.set_phase(&job, Some(Phase::Running));
                let running = Report::running(&job);
                let access = RoomAccess { url: url.filter(|url| !url.is_empty()), token: Secret(token) };
                // A server without rooms has no token for them.
                let access = Some(access).filter(|access| !access.token.0.is_empty());
                vec![Output::Launch { job, access }, Output::Report(running)]
            }
            Some(Phase::Running) => vec![Output::Warn(format!("ignored a second assignment of job {job}"))],
            None if self.recent_ends.contains(&job) => {
                vec![Output::Warn(format!("ignored an assignment of job {job}, which has ended"))]
            }
            // The server counts the job as running from here on; the report corrects that.
            Some(Phase::Deciding { .. }) | None => {
                let error = "the worker did not wait for this assignment";
                let warning = Output::Warn(clip(&format!("{error}: job {job}")));
                let report = Report::ended(job, JobEnd::new(Code::Lost, error));
                std::iter::once(warning).chain(self.send_end(report)).collect()
            }
        }
    }

    pub(super) fn on_termination(&mut self, job: String) -> Vec<Output> {
        match self.phase(&job) {
            Some(Phase::Running) => vec![Output::Stop { job }],
            Some(Phase::Deciding { .. } | Phase::Accepted { .. }) => {
                self.set_phase(&job, None);
                vec![Output::Withdraw { job, why: "the server terminated the job before its assignment" }]
            }
            // The job has ended, and its report is on the way.
            None => Vec::new(),
        }
    }

    pub(super) fn on_end(&mut self, job: String, end: JobEnd) -> Vec<Output> {
        if self.set_phase(&job, None).is_none() {
            return Vec::new();
        }
        if self.recent_ends.len() == RECENT_ENDS_MAX {
            self.recent_ends.pop_front();
        }
        self.recent_ends.push_back(job.clone());
        let report = Report::ended(job, end);
        if matches!(self.link, Link::Up { .. }) {
            return self.send_end(report);
        }
        self.undelivered.push_back(report);
        let excess = self.undelivered.len().saturating_sub(JOBS_MAX);
        let dropped = self.undelivered.drain(..excess);
        dropped.map(|report| Output::Warn(format!("dropped the report of job {}", report.job_id))).collect()
    }

    /// Send the report of an end, and ask for its receipt.
    pub(super) fn send_end(&mut self, report: Report) -> Vec<Output> {
        self.ends_sent += 1;
        // A server that answers no pings is assumed to have read the oldest report.
        if self.unconfirmed.len() == JOBS_MAX {
            self.unconfirmed.pop_front();
        }
        self.unconfirmed.push_back((self.ends_sent, report.clone()));
        let report = self.for_this_server(report);
        std::iter::once(Output::Report(report)).chain(self.ask_for_receipt()).collect()
    }

    /// One ping is open at a time; its answer confirms all reports that were sent before it.
    fn ask_for_receipt(&mut self) -> Option<Output> {
        if self.unconfirmed.is_empty() || self.receipt_due.is_some() {
            return None;
        }
        self.receipt_due = Some(self.ends_sent);
        Some(Output::Send(ToServer::Ping(proto::WorkerPing { timestamp: self.ends_sent })))
    }

    pub(super) fn on_pong(&mut self, ends_confirmed: i64) -> Vec<Output> {
        while self.unconfirmed.front().is_some_and(|(count, _)| *count <= ends_confirmed) {
            self.unconfirmed.pop_front();
        }
        self.receipt_due = None;
        self.ask_for_receipt().into_iter().collect()
    }

    /// Refuse the offers and withdraw the jobs whose time is up.
    pub(super) fn expire_jobs(&mut self, now: Instant) -> Vec<Output> {
        let mut outputs = Vec::new();
        while let Some(due) = self.deadlines.first().filter(|(until, _)| *until <= now).cloned() {
            self.deadlines.remove(&due);
            let job = due.1.to_string();
            match self.set_phase(&job, None) {
                Some(Phase::Deciding { .. }) => {
                    outputs.push(refusal(&job, false));
                    outputs.push(Output::Withdraw { job, why: "the agent did not decide in time" });
                }
                Some(Phase::Accepted { .. }) => {
                    outputs.push(Output::Withdraw { job, why: "the assignment did not arrive in time" });
                }
                Some(Phase::Running) | None => {}
            }
        }
        outputs
    }

    /// The report as this server reads it: LiveKit's server needs neither usage nor verdict.
    fn for_this_server(&self, report: Report) -> Report {
        if matches!(self.link, Link::Up { embedded: true }) { report } else { report.for_livekit() }
    }
}

fn accept(job_id: String, agent_name: &str, acceptance: Acceptance) -> Output {
    let Acceptance { identity, name, metadata, attributes } = acceptance;
    let mut participant_attributes: HashMap<String, String> = attributes.into_iter().collect();
    // LiveKit's own workers set it for front ends that look for an agent.
    participant_attributes.insert("lk.agent.name".into(), agent_name.into());
    Output::Send(ToServer::Availability(proto::AvailabilityResponse {
        participant_identity: identity.unwrap_or_else(|| format!("agent-{job_id}")),
        participant_name: name,
        participant_metadata: metadata,
        participant_attributes,
        available: true,
        job_id,
        ..Default::default()
    }))
}

fn refuse_unasked(job: String, reason: Reason, why: &'static str) -> Vec<Output> {
    vec![refusal(&job, false), Output::Refused { job, reason, why }]
}

/// The message that refuses an offer. With `terminate` no other worker is asked.
pub(super) fn refusal(job_id: &str, terminate: bool) -> Output {
    let job_id = job_id.to_owned();
    Output::Send(ToServer::Availability(proto::AvailabilityResponse { job_id, terminate, ..Default::default() }))
}
