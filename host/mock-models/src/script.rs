//! Rules, and the choice of the rule for a request. Pure.
//!
//! The first rule whose `when` holds answers. A script counts requests in [`Counts`], which its user keeps.

mod fill;
mod instance;

use std::time::Duration;

use crate::error::{ApiError, ErrorBody};
use crate::matching::{TextMatch, glob};
use crate::plan::{Answer, Finish, Interruption, Oddity, Pace, Piece, Plan, Reply, TOKENS_MAX, TimedPiece, Usage};
use crate::plan::{arguments_tokens, text_tokens};
use crate::request::{CallsAllowed, Delivery, Format, Request};
use fill::Facts;

/// The model that a script without `models` lists.
pub const MODEL: &str = "stand-in";
/// The speed of an answer whose script names none: a usual speed of hosted models.
pub const PACE: Pace = Pace { first_token: Duration::ZERO, tokens_per_second: 40 };

/// A script of answers.
#[derive(Clone, Debug)]
pub struct Script {
    /// The models that exist; every one does where the list is empty.
    pub(crate) models: Vec<String>,
    pub(crate) rules: Vec<Rule>,
}

/// A rule.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    /// The line of the rule; 0 for those that are built in.
    pub(crate) line: usize,
    pub(crate) when: When,
    pub(crate) then: Then,
    pub(crate) faults: Faults,
}

/// The requests that a rule is for. Everything that is set has to hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct When {
    /// The last text of the user. Holds only where no results came after it, unless `tool` is set.
    pub(crate) user: Option<TextMatch>,
    /// The question ends with a result of a tool with such a name.
    pub(crate) tool: Option<String>,
    /// The name of the model.
    pub(crate) model: Option<String>,
    /// The numbers, from 1, of the request among those for which the rest holds.
    pub(crate) nth: Vec<u64>,
}

#[derive(Clone, Debug)]
pub(crate) enum Then {
    Answer(Scripted),
    Refuse(ApiError),
}

/// An answer as it is written.
#[derive(Clone, Debug)]
pub(crate) struct Scripted {
    pub(crate) text: Text,
    pub(crate) calls: Vec<Call>,
    pub(crate) pace: Pace,
    pub(crate) usage: Option<Usage>,
    pub(crate) finish: Option<Finish>,
}

#[derive(Clone, Debug)]
pub(crate) enum Text {
    /// In each case this text.
    Fixed(String),
    /// This text, or JSON that tells it where the client wants JSON.
    Adapted(String),
}

#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) id: Option<String>,
    pub(crate) name: String,
    pub(crate) arguments: Arguments,
}

#[derive(Clone, Debug)]
pub(crate) enum Arguments {
    /// Any text, also one that is no JSON.
    Text(String),
    /// JSON in whose texts facts are filled in.
    Json(serde_json::Value),
}

/// What goes wrong with an answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    /// The answer is over after this number of tokens.
    pub(crate) interruption: Option<(Interruption, usize)>,
    /// A part that is no JSON comes after this number of tokens.
    pub(crate) wrong_json: Option<usize>,
    /// The first token has this many bytes.
    pub(crate) long_line: Option<usize>,
    pub(crate) byte_every: Option<Duration>,
    pub(crate) oddities: Vec<Oddity>,
    /// No reply at all.
    pub(crate) silence: Option<Silence>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Silence;

/// The requests that a script has answered.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// HTTP requests of every kind.
    exchanges: u64,
    /// Questions.
    requests: u64,
    /// For each rule the requests for which all of its `when` but `nth` held.
    fits: Vec<u64>,
}

impl Counts {
    /// Count an HTTP request. Returns its number, from 1.
    pub(crate) const fn next_exchange(&mut self) -> u64 {
        self.exchanges += 1;
        self.exchanges
    }

    /// Number of questions.
    pub const fn requests(&self) -> u64 {
        self.requests
    }
}

impl Script {
    /// The script without a file. It repeats what the user says and what tools tell, in a sentence.
    pub fn built_in() -> Self {
        let rule = |when: When, text: &str| {
            let text = Text::Adapted(text.to_owned());
            let then = Scripted { text, calls: Vec::new(), pace: PACE, usage: None, finish: None };
            Rule { line: 0, when, then: Then::Answer(then), faults: Faults::default() }
        };
        let tool = When { tool: Some("*".into()), ..When::default() };
        let nobody =
            When { user: Some(TextMatch { equals: Some(String::new()), ..TextMatch::default() }), ..When::default() };
        let rules = vec![
            rule(tool, "I am a stand-in for a model. The tool {tool} tells me: {result}"),
            rule(nobody, "Hello. I am a stand-in for a model, and I repeat what you say."),
            rule(When::default(), "I am a stand-in for a model, and you said: {user}"),
        ];
        Self { models: Vec::new(), rules }
    }

    /// The names of the models that `GET /v1/models` lists.
    pub fn models(&self) -> Vec<&str> {
        if self.models.is_empty() { vec![MODEL] } else { self.models.iter().map(String::as_str).collect() }
    }

    /// Choose the answer to a request, and count it.
    pub fn plan(&self, counts: &mut Counts, request: &Request) -> Plan {
        counts.requests += 1;
        let refused = |error| Plan { line: None, reply: Reply::Refusal(error) };
        if !self.models.is_empty() && !self.models.contains(&request.model) {
            return refused(ApiError::no_such_model(&request.model));
        }
        let Some(rule) = self.choose(counts, request) else { return refused(no_rule()) };
        let reply = match &rule.then {
            _ if rule.faults.silence.is_some() => Reply::Silence,
            Then::Refuse(error) => Reply::Refusal(error.clone()),
            // Nothing of a whole answer is sent before its end, so an error has its status.
            Then::Answer(_) if rule.faults.fails() && request.delivery == Delivery::Whole => {
                Reply::Refusal(ApiError::of_status(500))
            }
            Then::Answer(answer) => Reply::Answer(answer.planned(&rule.faults, request, counts.requests)),
        };
        Plan { line: Some(rule.line), reply }
    }

    /// The first rule that fits. The request counts for every rule that fits but for its number.
    fn choose(&self, counts: &mut Counts, request: &Request) -> Option<&Rule> {
        counts.fits.resize(self.rules.len(), 0);
        let mut chosen = None;
        for (rule, count) in self.rules.iter().zip(&mut counts.fits) {
            if !rule.when.fits(request) {
                continue;
            }
            *count += 1;
            if chosen.is_none() && (rule.when.nth.is_empty() || rule.when.nth.contains(count)) {
                chosen = Some(rule);
            }
        }
        chosen
    }
}

fn no_rule() -> ApiError {
    let message = "no rule of the stand-in's script fits this request; a rule without `when` fits every request";
    let (kind, code) = ("stand_in_error".to_owned(), Some("no_rule_fits".to_owned()));
    let body = ErrorBody::Object { message: message.into(), kind, param: None, code };
    ApiError { status: 400, retry_after: None, body }
}

impl When {
    /// Whether everything but the number holds.
    fn fits(&self, request: &Request) -> bool {
        let tool_fits =
            self.tool.as_ref().is_none_or(|wanted| request.results.iter().any(|result| glob(wanted, &result.name)));
        let user_fits = self
            .user
            .as_ref()
            .is_none_or(|wanted| (self.tool.is_some() || request.results.is_empty()) && wanted.fits(&request.user));
        tool_fits && user_fits && self.model.as_ref().is_none_or(|wanted| glob(wanted, &request.model))
    }
}

impl Scripted {
    /// The answer to the request with this number.
    fn planned(&self, faults: &Faults, request: &Request, number: u64) -> Answer {
        let facts = Facts::new(request);
        let (text, is_cut) = self.text(&facts, request);
        let mut tokens: Vec<Piece> = text_tokens(&text).into_iter().map(Piece::Text).collect();
        let calls = self.calls(request.calls);
        let are_tiny = faults.oddities.contains(&Oddity::TinyCalls);
        for (at, call) in calls.iter().enumerate() {
            let id = call.id.clone().unwrap_or_else(|| format!("call_{number}_{at}"));
            tokens.push(Piece::Call { id, name: call.name.clone() });
            let arguments = match &call.arguments {
                Arguments::Text(text) => text.clone(),
                Arguments::Json(json) => facts.fill_json(json).to_string(),
            };
            tokens.extend(arguments_tokens(&arguments, are_tiny).into_iter().map(Piece::Arguments));
        }
        let max = request.tokens_max.and_then(|max| usize::try_from(max).ok()).unwrap_or(TOKENS_MAX).min(TOKENS_MAX);
        let is_long = cut(&mut tokens, max);
        let finish = match self.finish {
            Some(finish) => finish,
            None if is_long => Finish::Length,
            None if !calls.is_empty() && !is_cut => Finish::ToolCalls,
            None => Finish::Stop,
        };
        let completion = tokens.iter().filter(|piece| piece.is_token()).count() as u64;
        let usage = self.usage.unwrap_or(Usage { prompt: request.prompt_tokens, cached: 0, completion });
        Answer {
            pieces: faults.timed(tokens, self.pace),
            finish,
            usage: (!faults.oddities.contains(&Oddity::NoUsage)).then_some(usage),
            oddities: faults.oddities.clone(),
            byte_every: faults.byte_every,
        }
    }

    /// The text up to the first stop, and whether there was one.
    fn text(&self, facts: &Facts<'_>, request: &Request) -> (String, bool) {
        let mut text = match (&self.text, &request.format) {
            (Text::Fixed(text), _) | (Text::Adapted(text), Format::Text) => facts.fill(text),
            (Text::Adapted(text), Format::JsonObject) => serde_json::json!({ "answer": facts.fill(text) }).to_string(),
            (Text::Adapted(text), Format::JsonSchema(schema)) => instance::of(schema, &facts.fill(text)).to_string(),
        };
        let stops = request.stops.iter().filter(|stop| !stop.is_empty());
        let first = stops.filter_map(|stop| text.find(stop.as_str())).min();
        if let Some(at) = first {
            text.truncate(at);
        }
        (text, first.is_some())
    }

    fn calls(&self, allowed: CallsAllowed) -> &[Call] {
        let most = match allowed {
            CallsAllowed::Parallel => self.calls.len(),
            CallsAllowed::One => self.calls.len().min(1),
            CallsAllowed::None => 0,
        };
        self.calls.get(..most).unwrap_or_default()
    }
}

impl Piece {
    const fn is_token(&self) -> bool {
        matches!(self, Self::Text(_) | Self::Arguments(_))
    }
}

/// Cut the pieces after this number of tokens. Returns whether there were more.
fn cut(pieces: &mut Vec<Piece>, max: usize) -> bool {
    let mut tokens = 0;
    let all = pieces.len();
    pieces.retain(|piece| {
        tokens += usize::from(piece.is_token());
        tokens <= max && (tokens < max || piece.is_token())
    });
    pieces.len() < all
}

impl Faults {
    /// Whether an error ends the answer.
    fn fails(&self) -> bool {
        self.interruption.is_some_and(|(interruption, _)| interruption == Interruption::Error)
    }

    /// The pieces with their times, and with what goes wrong.
    fn timed(&self, pieces: Vec<Piece>, pace: Pace) -> Vec<TimedPiece> {
        let (mut timed, mut tokens) = (Vec::new(), 0);
        if let Some(bytes) = self.long_line {
            timed.push(TimedPiece { at: pace.time(0), piece: Piece::LongLine(bytes) });
        }
        let mut wrong_json = self.wrong_json;
        for piece in pieces {
            let at = pace.time(tokens);
            if wrong_json.take_if(|after| *after <= tokens).is_some() {
                timed.push(TimedPiece { at, piece: Piece::WrongJson });
            }
            if self.interruption.is_some_and(|(_, after)| after <= tokens) {
                break;
            }
            tokens += usize::from(piece.is_token());
            timed.push(TimedPiece { at, piece });
        }
        let at = pace.time(tokens);
        if wrong_json.is_some() {
            timed.push(TimedPiece { at, piece: Piece::WrongJson });
        }
        if let Some((interruption, _)) = self.interruption {
            timed.push(TimedPiece { at, piece: Piece::Interrupted(interruption) });
        }
        timed
    }
}

#[cfg(test)]
mod tests;
