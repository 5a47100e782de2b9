//! The limits of all jobs of one agent together, so that one agent leaves the worker to others. Pure.
//!
//! An offer that is over a limit is refused at once; jobs that run go on. Cores and tokens are those of the last sample of the
//! load: what an agent uses within half a second is seen after it. The worker counts from its own start.
//!
//! Bounds: the samples of [`CORES_WINDOW`], and [`SLOTS`] sums of tokens.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;
use wasm_worker_core::load::{Resource, Scarcity};
use wasm_worker_core::refusal::{Reason, Refusal};
use wasm_worker_core::usage::{ModelSums, UsageRecord};
use wasm_worker_sandbox::job::launch::JobHandle;

use crate::config::Quotas;

/// The time that the use of cores is an average of: long enough for short bursts.
const CORES_WINDOW: Duration = Duration::from_secs(10);
/// The time in which tokens are counted.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Sums of tokens in a day. The oldest of them falls out as a whole.
const SLOTS: u32 = 96;

/// What jobs used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Used {
    /// CPU time.
    cpu: Duration,
    /// Tokens of models.
    tokens: u64,
}

impl Used {
    /// The use of a job that ended.
    fn of_record(usage: &UsageRecord) -> Self {
        let tokens = usage.models.iter().map(ModelSums::tokens).fold(0, u64::saturating_add);
        Self { cpu: Duration::from_micros(usage.cpu_us), tokens }
    }

    /// The use of a job that runs, so far.
    pub(super) fn of_job(job: &JobHandle) -> Self {
        Self { cpu: Duration::from_micros(job.used().0), tokens: job.tokens() }
    }

    fn plus(self, other: Self) -> Self {
        Self { cpu: self.cpu.saturating_add(other.cpu), tokens: self.tokens.saturating_add(other.tokens) }
    }
}

/// The limits of one agent, and what its jobs use.
#[derive(Debug)]
pub(super) struct Quota {
    limits: Quotas,
    /// The use of the jobs that ended.
    ended: Used,
    /// All CPU time of the agent at each sample of the window, the oldest first.
    cpu: VecDeque<(Instant, Duration)>,
    /// Cores in use, by those samples.
    cores: f64,
    /// Cores that the offers since the last sample are predicted to use.
    predicted_cores: f64,
    /// All tokens at the last sample.
    tokens_seen: u64,
    /// The tokens of each slot of the day that has some, with the begin of the slot.
    slots: VecDeque<(Instant, u64)>,
    /// Their sum.
    daily_tokens: u64,
}

impl Quota {
    /// None for an agent without such limits.
    pub(super) fn new(limits: Quotas, now: Instant) -> Option<Self> {
        let Quotas { jobs_max, cores_max, daily_tokens, network_bytes_per_second: _ } = limits;
        (jobs_max.is_some() || cores_max.is_some() || daily_tokens.is_some()).then(|| Self {
            limits,
            ended: Used::default(),
            cpu: VecDeque::from([(now, Duration::ZERO)]),
            cores: 0.0,
            predicted_cores: 0.0,
            tokens_seen: 0,
            slots: VecDeque::new(),
            daily_tokens: 0,
        })
    }

    /// Note a job that ended.
    pub(super) fn job_ended(&mut self, usage: &UsageRecord) {
        self.ended = self.ended.plus(Used::of_record(usage));
    }

    /// Take a sample: the use so far of each job that runs.
    pub(super) fn sample(&mut self, now: Instant, running: impl Iterator<Item = Used>) {
        let all = running.fold(self.ended, Used::plus);
        self.sample_cores(now, all.cpu);
        self.sample_tokens(now, all.tokens);
    }

    fn sample_cores(&mut self, now: Instant, cpu: Duration) {
        self.cpu.push_back((now, cpu));
        while self.cpu.get(1).is_some_and(|(at, _)| *at + CORES_WINDOW <= now) {
            self.cpu.pop_front();
        }
        if let Some((at, then)) = self.cpu.front() {
            // A window that is not full yet counts as one that was idle before.
            let seconds = (now - *at).max(CORES_WINDOW).as_secs_f64();
            self.cores = cpu.saturating_sub(*then).as_secs_f64() / seconds;
        }
        self.predicted_cores = 0.0;
    }

    fn sample_tokens(&mut self, now: Instant, tokens: u64) {
        while self.slots.front().is_some_and(|(at, _)| *at + DAY <= now) {
            self.daily_tokens -= self.slots.pop_front().map_or(0, |(_, tokens)| tokens);
        }
        let new = tokens.saturating_sub(self.tokens_seen);
        self.tokens_seen = self.tokens_seen.max(tokens);
        if new == 0 {
            return;
        }
        let before = self.daily_tokens;
        self.daily_tokens = before.saturating_add(new);
        let new = self.daily_tokens - before;
        match self.slots.back_mut().filter(|(at, _)| now < *at + DAY / SLOTS) {
            Some((_, tokens)) => *tokens += new,
            None => self.slots.push_back((now, new)),
        }
    }

    /// Whether one more job fits, where the agent has `jobs` with it, and is predicted to use so many cores for it.
    pub(super) fn admit(&mut self, jobs: usize, cores: f64) -> Result<(), Refusal> {
        if let Some(most) = self.limits.jobs_max.filter(|most| jobs > *most) {
            let detail = format!("the agent has {most} jobs, which is its most (`agent-max-jobs`)");
            return Err(Refusal::new(Reason::Quota, detail));
        }
        if let Some(Scarcity { resource, used, limit }) = self.scarcity_of_use() {
            return Err(Refusal::new(
                Reason::Quota,
                match resource {
                    Resource::AgentCores => format!(
                        "the jobs of the agent use {used:.2} cores, on average over {CORES_WINDOW:?}, and may use {limit} (`agent-cores`)"
                    ),
                    _ => format!(
                        "the models of the agent used {used:.0} tokens in 24 hours, and may use {limit:.0} (`daily-tokens`)"
                    ),
                },
            ));
        }
        self.predicted_cores += cores;
        Ok(())
    }

    /// The limit that keeps an agent with so many jobs from one more.
    pub(super) fn scarcity(&self, jobs: usize) -> Option<Scarcity> {
        let most = self.limits.jobs_max.filter(|most| jobs >= *most);
        #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
        let of_jobs =
            most.map(|most| Scarcity { resource: Resource::AgentJobs, used: jobs as f64, limit: most as f64 });
        of_jobs.or_else(|| self.scarcity_of_use())
    }

    fn scarcity_of_use(&self) -> Option<Scarcity> {
        let used = self.cores + self.predicted_cores;
        if let Some(limit) = self.limits.cores_max.filter(|limit| used >= *limit) {
            return Some(Scarcity { resource: Resource::AgentCores, used, limit });
        }
        let most = self.limits.daily_tokens.filter(|most| self.daily_tokens >= *most)?;
        #[expect(clippy::cast_precision_loss, reason = "for people")]
        let (used, limit) = (self.daily_tokens as f64, most as f64);
        Some(Scarcity { resource: Resource::AgentTokens, used, limit })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const SAMPLE: Duration = Duration::from_millis(500);

    fn used(cpu_ms: u64, tokens: u64) -> Used {
        Used { cpu: Duration::from_millis(cpu_ms), tokens }
    }

    fn detail(refused: Result<(), Refusal>) -> String {
        let refusal = refused.unwrap_err();
        assert_eq!((refusal.reason, refusal.terminate), (Reason::Quota, false));
        refusal.detail
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_without_limits_has_no_quota() {
        let network = Quotas { network_bytes_per_second: Some(1), ..Quotas::default() };
        assert!(Quota::new(network, Instant::now()).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn one_more_job_than_the_most_is_refused_by_name() {
        let mut quota = Quota::new(Quotas { jobs_max: Some(2), ..Quotas::default() }, Instant::now()).unwrap();
        assert!(quota.admit(1, 9.0).is_ok() && quota.scarcity(1).is_none());
        assert!(quota.admit(2, 9.0).is_ok(), "with this one");
        assert_eq!(quota.scarcity(2).unwrap().to_string(), "jobs of its agent 2, `agent-max-jobs` 2");
        assert!(detail(quota.admit(3, 0.0)).contains("has 2 jobs, which is its most (`agent-max-jobs`)"));
        assert!(quota.admit(2, 0.0).is_ok(), "one ended");
    }

    #[tokio::test(start_paused = true)]
    async fn cores_are_an_average_and_what_was_just_offered_counts() {
        let start = Instant::now();
        let mut quota = Quota::new(Quotas { cores_max: Some(0.5), ..Quotas::default() }, start).unwrap();
        // A job takes a whole core, and passes the average after 5 s.
        let mut at = start;
        for sample in 1..10 {
            at += SAMPLE;
            quota.sample(at, [used(500 * sample, 0)].into_iter());
            assert!(quota.admit(2, 0.0).is_ok(), "{sample}");
        }
        at += SAMPLE;
        quota.sample(at, [used(5_000, 0)].into_iter());
        let why = detail(quota.admit(2, 0.0));
        assert!(why.contains("use 0.50 cores, on average over 10s, and may use 0.5 (`agent-cores`)"), "{why}");
        assert_eq!(quota.scarcity(1).unwrap().resource, Resource::AgentCores);
        // It ends, and the agent is idle for the window.
        quota.job_ended(&UsageRecord { cpu_us: 5_000_000, ..UsageRecord::default() });
        for _ in 0..20 {
            at += SAMPLE;
            quota.sample(at, std::iter::empty());
        }
        assert!((0.0..0.03).contains(&quota.cores), "{}", quota.cores);
        // Offers of one moment count by what they are predicted to use, until the next sample.
        let taken = (0..100).filter(|_| quota.admit(1, 0.1).is_ok()).count();
        assert!((5..=6).contains(&taken), "{taken}");
        quota.sample(at + SAMPLE, std::iter::empty());
        assert!(quota.admit(1, 0.1).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_count_once_for_a_day_from_running_and_ended_jobs() {
        let start = Instant::now();
        let mut quota = Quota::new(Quotas { daily_tokens: Some(1_000), ..Quotas::default() }, start).unwrap();
        let hour = Duration::from_secs(3_600);
        quota.sample(start + hour, [used(0, 300), used(0, 200)].into_iter());
        assert!(quota.admit(3, 0.0).is_ok());
        let counters = BTreeMap::from([("input_tokens".to_owned(), 250.0), ("output_tokens".to_owned(), 50.0)]);
        let model = ModelSums { kind: "llm".into(), provider: "p".into(), model: "m".into(), counters };
        quota.job_ended(&UsageRecord { models: vec![model], ..UsageRecord::default() });
        quota.sample(start + 2 * hour, [used(0, 200)].into_iter());
        assert_eq!(quota.daily_tokens, 500, "the job that ended counts once");
        quota.sample(start + 3 * hour, [used(0, 700)].into_iter());
        assert!(
            detail(quota.admit(2, 0.0)).contains("used 1000 tokens in 24 hours, and may use 1000 (`daily-tokens`)")
        );
        // The first 500 leave after a day, the others later.
        quota.sample(start + 24 * hour, [used(0, 700)].into_iter());
        assert!(quota.admit(2, 0.0).is_err());
        quota.sample(start + 25 * hour, [used(0, 700)].into_iter());
        assert_eq!((quota.daily_tokens, quota.admit(2, 0.0).is_ok()), (500, true));
        for minute in 0..60 * 48 {
            quota.sample(
                start + 25 * hour + Duration::from_secs(60) * minute,
                [used(0, 701 + u64::from(minute))].into_iter(),
            );
        }
        assert!(quota.slots.len() <= SLOTS as usize + 1 && quota.daily_tokens <= 1_460, "{}", quota.daily_tokens);
    }

    #[tokio::test(start_paused = true)]
    async fn absurd_reports_do_not_overflow() {
        let now = Instant::now();
        let mut quota = Quota::new(Quotas { daily_tokens: Some(5), ..Quotas::default() }, now).unwrap();
        for step in 0..3 {
            quota.sample(now + DAY * step, [used(u64::MAX / 2, u64::MAX), used(u64::MAX / 2, u64::MAX)].into_iter());
            assert_eq!(quota.admit(1, 0.0).is_err(), step == 0);
        }
    }
}
