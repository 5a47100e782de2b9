//! A verdict as the commands print it.

use std::time::Duration;

use wasm_worker_core::verdict::{Blame, Class, Verdict};

/// `✔` for an end as intended, else `✘`.
pub(super) fn mark(verdict: &Verdict) -> &'static str {
    if verdict.code.class() == Class::Ok { "✔" } else { "✘" }
}

/// The code and the detail; the meaning of the code where there is no detail.
pub(super) fn headline(verdict: &Verdict) -> String {
    let detail = if verdict.detail.is_empty() { verdict.code.meaning() } else { &verdict.detail };
    format!("{}: {detail}", verdict.code)
}

/// Who is responsible.
pub(super) const fn blame(blame: Blame) -> &'static str {
    match blame {
        Blame::Guest => "agent",
        Blame::Host => "host",
        Blame::Dispatcher => "dispatcher",
        Blame::Operator => "operator",
    }
}

/// Whether a second run may end better.
pub(super) const fn retry(may_help: bool) -> &'static str {
    if may_help { "may help" } else { "unlikely to help" }
}

/// For an end that is not as intended: blame and retry, the kind of a trap, the kill lag, and the backtrace, innermost frame
/// first.
pub(super) fn details(verdict: &Verdict) -> Vec<String> {
    let mut lines = Vec::new();
    if verdict.code.class() != Class::Ok {
        lines.push(format!("  blame    {}", blame(verdict.blame)));
        lines.push(format!("  retry    {}", retry(verdict.retry)));
    }
    lines.extend(verdict.trap.map(|trap| format!("  trap     {}", trap.as_str())));
    let lag = verdict.kill_lag_us.map(Duration::from_micros);
    lines.extend(lag.map(|lag| format!("  killed   {lag:?} after the limit was passed or the kill was requested")));
    lines.extend(frames(verdict));
    lines
}

/// The backtrace, innermost frame first.
pub(super) fn frames(verdict: &Verdict) -> Vec<String> {
    let label = |at: usize| if at == 0 { "  in       " } else { "           " };
    verdict.backtrace.iter().enumerate().map(|(at, frame)| format!("{}{frame}", label(at))).collect()
}
