//! `wasm-worker explain`: what an end code means and what to do.

use clap::Args;
use clap::builder::PossibleValuesParser;

use super::{Exit, Failure, print};
use crate::job::verdict::{Blame, Code};

#[derive(Args)]
pub(crate) struct ExplainArgs {
    /// End code, as in a verdict; all of them when absent
    #[arg(value_name = "CODE", value_parser = PossibleValuesParser::new(Code::ALL.map(Code::as_str)))]
    code: Option<String>,
}

pub(crate) fn run(args: &ExplainArgs) -> Result<Exit, Failure> {
    let wanted = |code: &&Code| args.code.as_deref().is_none_or(|name| name == code.as_str());
    let texts: Vec<String> = Code::ALL.iter().filter(wanted).map(|code| explain(*code)).collect();
    print(&texts.join("\n\n"))?;
    Ok(Exit::Ok)
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
