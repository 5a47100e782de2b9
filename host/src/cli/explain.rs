//! `wasm-worker explain`: the meaning of end codes, of reasons of refusals, and of codes of failures, with advice.

use clap::Args;
use clap::builder::PossibleValuesParser;

use super::{Exit, Failure, print, verdict};
use wasm_worker_core::network::code::{FAILURE_CODES, FailureCode};
use wasm_worker_core::refusal::Reason;
use wasm_worker_core::verdict::Code;

#[derive(Args)]
pub(crate) struct ExplainArgs {
    /// End codes of verdicts, reasons of refusals, or codes of failures that agents see [default: all]
    #[arg(value_name = "CODE", value_parser = PossibleValuesParser::new(names()))]
    codes: Vec<String>,
}

pub(crate) fn run(args: &ExplainArgs) -> Result<Exit, Failure> {
    let wanted = |name: &str| args.codes.is_empty() || args.codes.iter().any(|code| code == name);
    let ends = Code::ALL.into_iter().filter(|code| wanted(code.as_str())).map(explain);
    let refusals = Reason::ALL.into_iter().filter(|reason| wanted(reason.as_str())).map(explain_refusal);
    let failures = FAILURE_CODES.iter().filter(|failure| wanted(failure.code)).map(explain_failure);
    print(&ends.chain(refusals).chain(failures).collect::<Vec<_>>().join("\n\n"))?;
    Ok(Exit::Ok)
}

/// Each name once: `rejected` is both an end code and a reason.
fn names() -> Vec<&'static str> {
    let ends = Code::ALL.map(Code::as_str);
    let refusals = Reason::ALL.map(Reason::as_str).into_iter().filter(|name| !ends.contains(name));
    let failures = FAILURE_CODES.iter().map(|failure| failure.code);
    ends.into_iter().chain(refusals).chain(failures).collect()
}

fn explain_refusal(reason: Reason) -> String {
    format!("{reason} (refusal of an offer): {}\n  advice: {}", reason.meaning(), reason.advice())
}

fn explain_failure(failure: &FailureCode) -> String {
    let FailureCode { code, meaning, advice } = failure;
    format!("{code} (failure of a call): {meaning}\n  advice: {advice}")
}

fn explain(code: Code) -> String {
    format!(
        "{code}: {}\n  blame: {}\n  retry: {}\n  advice: {}\n  exit status: {}",
        code.meaning(),
        verdict::blame(code.blame()),
        verdict::retry(code.retry()),
        code.advice(),
        Exit::from(code.class()) as u8,
    )
}
