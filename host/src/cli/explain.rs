//! `wasm-worker explain`: what an end code, or the reason of a refusal, means and what to do.

use clap::Args;
use clap::builder::PossibleValuesParser;

use super::{Exit, Failure, print};
use wasm_worker_core::refusal::Reason;
use wasm_worker_core::verdict::{Blame, Code};

#[derive(Args)]
pub(crate) struct ExplainArgs {
    /// End code, as in a verdict, or reason of a refusal; all of them when absent
    #[arg(value_name = "CODE", value_parser = PossibleValuesParser::new(names()))]
    code: Option<String>,
}

pub(crate) fn run(args: &ExplainArgs) -> Result<Exit, Failure> {
    let wanted = |name: &str| args.code.as_deref().is_none_or(|code| code == name);
    let ends = Code::ALL.into_iter().filter(|code| wanted(code.as_str())).map(explain);
    let refusals = Reason::ALL.into_iter().filter(|reason| wanted(reason.as_str())).map(explain_refusal);
    print(&ends.chain(refusals).collect::<Vec<_>>().join("\n\n"))?;
    Ok(Exit::Ok)
}

/// Each once: `rejected` is both an end and a refusal.
fn names() -> Vec<&'static str> {
    let ends = Code::ALL.map(Code::as_str);
    let refusals = Reason::ALL.map(Reason::as_str).into_iter().filter(|name| !ends.contains(name));
    ends.into_iter().chain(refusals).collect()
}

fn explain_refusal(reason: Reason) -> String {
    format!("{reason}, of an offer: {}\n  what to do: {}", reason.meaning(), reason.advice())
}

fn explain(code: Code) -> String {
    let blame = match code.blame() {
        Blame::Guest => "the agent's",
        Blame::Host => "wasm-worker's or the machine's",
        Blame::Dispatcher => "the dispatcher's",
        Blame::Operator => "the operator's",
    };
    let retry = if code.retry() { "may end better" } else { "is not known to end better" };
    format!(
        "{code}: {}\n  whose doing: {blame}\n  again: running the same job again {retry}\n  what to do: {}\n  exit status: {}",
        code.meaning(),
        code.advice(),
        Exit::from(code.class()) as u8,
    )
}
