//! What one job has used so far: memory, host calls and their bytes. The meter counts memory and enforces its limit.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use wasmtime::ResourceLimiter;

use wasm_worker_core::usage::HostCalls;

use super::control::Control;
use super::kill::{Budget, Kill, Warning};
use crate::engine::spending::Spending;
use crate::settings::Limits;

/// Share of a budget whose use causes a warning, in percent.
const WARNING_PERCENT: usize = 80;
/// Memory of one table element: a pointer, as wasmtime documents for its limiter.
const TABLE_ELEMENT_BYTES: usize = size_of::<usize>();

/// The meter of one instance.
pub(crate) struct Meter {
    limits: Arc<Limits>,
    /// Receives the warnings.
    control: Arc<Control>,
    /// Linear memories.
    memory_bytes: usize,
    /// Tables.
    table_bytes: usize,
    /// The engine's structures for the instance.
    instance_bytes: usize,
    /// Memory that host calls keep for this job.
    host_bytes: usize,
    /// Memory outside of the sandbox that the job has filled, as of the last look: what waits in its room and its network.
    outside_bytes: usize,
    /// The largest sum so far.
    peak_bytes: usize,
    /// Bytes of the last growth, which are subtracted again if the growth fails.
    growing: usize,
    /// Admissions of memory that the guest has asked for in the present step. A replay counts the same.
    admissions: u64,
    /// In a replay: the admission that is refused, and no other one.
    refused: Option<u64>,
    /// Budgets with a warning already.
    warned: Vec<Budget>,
    /// Host calls and their bytes; each host call counts itself.
    pub(crate) calls: HostCalls,
    /// The time of the launch.
    pub(crate) launched: Option<Instant>,
    /// The sums of the engine.
    spending: Arc<Spending>,
    /// Fuel and nanoseconds of CPU that are in those sums already.
    spent: (u64, u64),
}

impl Meter {
    /// A meter that shows zero.
    pub(crate) fn new(limits: Arc<Limits>, control: Arc<Control>, spending: Arc<Spending>) -> Self {
        Self {
            limits,
            control,
            memory_bytes: 0,
            table_bytes: 0,
            instance_bytes: 0,
            host_bytes: 0,
            outside_bytes: 0,
            peak_bytes: 0,
            growing: 0,
            admissions: 0,
            refused: None,
            warned: Vec::new(),
            calls: HostCalls::default(),
            launched: None,
            spending,
            spent: (0, 0),
        }
    }

    /// Add what was used since the last call to the sums of the engine. A counter that was reset counts from zero.
    pub(crate) fn spend(&mut self, fuel: u64, cpu: Duration) {
        let cpu = u64::try_from(cpu.as_nanos()).unwrap_or(u64::MAX);
        let since = |now: u64, then: u64| now.checked_sub(then).unwrap_or(now);
        self.spending.add(since(fuel, self.spent.0), since(cpu, self.spent.1));
        self.spent = (fuel, cpu);
    }

    /// The fuel counts from zero again.
    pub(crate) fn refueled(&mut self) {
        self.spent.0 = 0;
    }

    /// Remove the memory limit, once no code of the guest runs any more.
    pub(crate) fn lift_memory_limit(&mut self) {
        self.limits = Arc::new(Limits { memory_bytes: usize::MAX, ..Limits::clone(&self.limits) });
    }

    /// The limits of the job.
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Count from zero again: what came before is no part of the job. Memories, tables and the instance stay counted.
    pub(crate) fn reset(&mut self) {
        self.spent = (0, 0);
        (self.host_bytes, self.outside_bytes) = (0, 0);
        self.peak_bytes = 0;
        self.warned.clear();
        self.calls = HostCalls::default();
    }

    /// Memory of the job now, in bytes.
    pub(crate) fn used_bytes(&self) -> usize {
        self.inside_bytes() + self.outside_bytes
    }

    fn inside_bytes(&self) -> usize {
        self.memory_bytes + self.table_bytes + self.instance_bytes + self.host_bytes + self.control.inbox.bytes()
    }

    /// This much waits outside of the sandbox. It has bounds of its own, and others may fill it, so what the host keeps for the job is
    /// not refused for it: it leaves less for what the guest takes next.
    pub(crate) fn set_outside(&mut self, bytes: usize) {
        if bytes != self.outside_bytes {
            self.outside_bytes = bytes;
            self.peak_bytes = self.peak_bytes.max(self.used_bytes());
        }
    }

    /// The largest memory of the job so far, in bytes.
    pub(crate) fn peak_bytes(&self) -> usize {
        self.peak_bytes.max(self.used_bytes())
    }

    /// A step begins. In a replay `refused` is the admission that the recorded step was killed for.
    pub(crate) fn begin_step(&mut self, refused: Option<u64>) {
        (self.admissions, self.refused) = (0, refused);
    }

    /// Admissions of memory that the guest has asked for in the present step.
    pub(crate) fn admissions(&self) -> u64 {
        self.admissions
    }

    /// Charge memory that a call of the guest keeps in the host.
    pub(crate) fn charge_call(&mut self, bytes: usize) -> Result<(), Kill> {
        self.admit_for_guest(bytes)?;
        self.host_bytes += bytes;
        Ok(())
    }

    /// Charge memory that the host is about to keep for this job.
    pub(crate) fn charge(&mut self, bytes: usize) -> Result<(), Kill> {
        self.admit(self.inside_bytes(), bytes)?;
        self.host_bytes += bytes;
        Ok(())
    }

    /// Fail when what is kept already exceeds the limit: events that must not be dropped are counted after the fact.
    pub(crate) fn check(&mut self) -> Result<(), Kill> {
        self.admit(self.inside_bytes(), 0)
    }

    /// Charge the engine's structures for the instance, which no limiter is asked about.
    pub(crate) fn charge_instance(&mut self, bytes: usize) -> Result<(), Kill> {
        self.admit(self.inside_bytes(), bytes)?;
        self.instance_bytes += bytes;
        Ok(())
    }

    /// Subtract memory that the host no longer keeps for this job.
    pub(crate) fn release(&mut self, bytes: usize) {
        self.host_bytes = self.host_bytes.saturating_sub(bytes);
    }

    /// Fail when one argument is larger than `hostcall-limit`.
    pub(crate) fn within_call(&self, what: &'static str, bytes: usize) -> Result<(), Kill> {
        let limit = self.limits.hostcall_bytes;
        if bytes > limit { Err(Kill::Hostcall { what, wanted: bytes, limit }) } else { Ok(()) }
    }

    /// Warn once when `used` has reached its share of `limit`.
    pub(crate) fn watch(&mut self, budget: Budget, used: u64, limit: u64) {
        let passed = u128::from(used) * 100 >= u128::from(limit) * WARNING_PERCENT as u128;
        if passed && !self.warned.contains(&budget) {
            self.warned.push(budget);
            self.control.warn(Warning::Budget { budget, used, limit });
        }
    }

    /// Check that the job may have `more` bytes for something that the guest does.
    fn admit_for_guest(&mut self, more: usize) -> Result<(), Kill> {
        self.admissions += 1;
        if self.refused == Some(self.admissions) {
            return Err(Kill::Memory {
                wanted: self.used_bytes().saturating_add(more),
                limit: self.limits.memory_bytes,
            });
        }
        self.admit(self.used_bytes(), more)
    }

    /// Check that the job may have `more` bytes beside those that count.
    fn admit(&mut self, counted: usize, more: usize) -> Result<(), Kill> {
        let (wanted, limit) = (counted.saturating_add(more), self.limits.memory_bytes);
        if wanted > limit {
            return Err(Kill::Memory { wanted, limit });
        }
        self.peak_bytes = self.peak_bytes.max(self.used_bytes().saturating_add(more));
        self.watch(Budget::Memory, wanted as u64, limit as u64);
        Ok(())
    }
}

/// The used fuel when `left` is left. A job without a fuel limit starts with `u64::MAX`.
pub(crate) fn fuel_used(limits: &Limits, left: u64) -> u64 {
    limits.fuel.unwrap_or(u64::MAX).saturating_sub(left)
}

/// Checks the memories and tables of the whole job against one limit. Exceeding the limit ends the job. A growth that fails for
/// another reason is subtracted again.
impl ResourceLimiter for Meter {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current);
        self.admit_for_guest(more)?;
        self.memory_bytes += more;
        self.growing = more;
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.memory_bytes -= std::mem::take(&mut self.growing);
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current).saturating_mul(TABLE_ELEMENT_BYTES);
        self.admit_for_guest(more)?;
        self.table_bytes += more;
        self.growing = more;
        Ok(true)
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.table_bytes -= std::mem::take(&mut self.growing);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::guest::control::ControlEvent;
    use crate::guest::inbox_queue::InboxQueue;
    use crate::guest::job_log::JobLog;

    #[test]
    fn memory_is_one_budget_for_memories_tables_and_host() {
        let limits = Arc::new(Limits { memory_bytes: 1_000, ..Limits::default() });
        let inbox = InboxQueue::new(4, 500);
        let control = Arc::new(Control::new(inbox, JobLog::new("a".into(), 1), Arc::default()));
        let mut meter = Meter::new(limits, control.clone(), Arc::default());
        assert!(meter.memory_growing(0, 500, None).unwrap());
        assert!(meter.table_growing(0, 25, None).unwrap());
        assert_eq!(meter.used_bytes(), 700);
        assert!(control.take_events().is_empty());
        meter.charge(150).unwrap();
        assert!(matches!(control.take_events().as_slice(), [ControlEvent::Warning(Warning::Budget { .. })]));
        assert!(control.inbox.bytes() > 0, "the guest is told, at its own cost");
        let told = control.inbox.take(Instant::now(), &mut Vec::new(), |_| true);
        control.inbox.release(told);
        assert_eq!(meter.charge(200), Err(Kill::Memory { wanted: 1_050, limit: 1_000 }));
        meter.release(150);
        assert!(meter.memory_growing(500, 800, None).unwrap());
        meter.memory_grow_failed(wasmtime::Error::msg("no room in the pool")).unwrap();
        assert_eq!(meter.used_bytes(), 700);
        assert_eq!(meter.peak_bytes(), 1_000);
        assert!(control.take_events().is_empty(), "the warning is given once");
    }

    #[test]
    fn what_waits_outside_leaves_less_and_ends_no_job() {
        let limits = Arc::new(Limits { memory_bytes: 1_000, ..Limits::default() });
        let control = Arc::new(Control::new(InboxQueue::new(4, 500), JobLog::new("a".into(), 1), Arc::default()));
        let mut meter = Meter::new(limits, control, Arc::default());
        meter.set_outside(2_000);
        assert_eq!((meter.used_bytes(), meter.peak_bytes()), (2_000, 2_000));
        assert_eq!(meter.charge_call(1), Err(Kill::Memory { wanted: 2_001, limit: 1_000 }));
        meter.charge(600).unwrap();
        assert_eq!((meter.used_bytes(), meter.peak_bytes()), (2_600, 2_600));
        meter.set_outside(100);
        // The guest is told that most of its memory is used, and pays for that.
        let told = meter.control.inbox.bytes();
        assert_eq!((meter.used_bytes(), meter.peak_bytes()), (700 + told, 2_600));
    }

    #[test]
    fn use_before_a_job_does_not_reduce_its_own() {
        let inbox = InboxQueue::new(4, 500);
        let control = Arc::new(Control::new(inbox, JobLog::new("a".into(), 1), Arc::default()));
        let engine = Arc::new(Spending::default());
        let mut meter = Meter::new(Arc::new(Limits::default()), control, engine.clone());
        meter.spend(100, Duration::ZERO);
        meter.reset();
        meter.spend(150, Duration::ZERO);
        meter.spend(170, Duration::ZERO);
        assert_eq!(engine.fuel.load(Ordering::Relaxed), 270);
    }
}
