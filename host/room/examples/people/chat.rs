//! Texts among the people of a room and its agent, which echoes each, with sound in some of the rooms.
//!
//! Where there is sound, the first person of a room says a tone and hears the agent, which repeats it; the others hear both. What the
//! first ones heard is told.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use wasm_worker_core::room::command::{Command, SendOptions};

use crate::{Person, TOPIC, failures, sound, told};

/// Time for the last texts and echoes to come.
const LAST_WITHIN: Duration = Duration::from_secs(2);

/// What one person said, and when.
type Said = Vec<(String, Instant)>;

/// Have everybody in the rooms of these people chat. In the first of them there is sound too.
pub(crate) async fn chat(
    people: &[Arc<Person>],
    others: &[Arc<Person>],
    seconds: u64,
    every_ms: u64,
    sound_rooms: usize,
) -> Value {
    let is_in = |rooms: &[Arc<Person>], other: &Person| rooms.iter().any(|person| person.name == other.name);
    let others_of = |rooms: &[Arc<Person>]| -> Vec<Arc<Person>> {
        others.iter().filter(|other| is_in(rooms, other)).cloned().collect()
    };
    let everybody = [people.to_vec(), others_of(people)].concat();
    let speakers = &people[..sound_rooms];
    let listeners = others_of(speakers);
    everybody.iter().for_each(|person| person.state().chat = Some(HashMap::new()));
    let (said, heard, of_listeners) = tokio::join!(
        texts(&everybody, Duration::from_secs(seconds), Duration::from_millis(every_ms)),
        sound(speakers, seconds, "both"),
        sound(&listeners, seconds, "out"),
    );
    tokio::time::sleep(LAST_WITHIN).await;
    let came: Vec<HashMap<String, Instant>> =
        everybody.iter().map(|person| person.state().chat.take().unwrap_or_default()).collect();
    let mut by_room = HashMap::<&str, Vec<usize>>::new();
    for (number, person) in everybody.iter().enumerate() {
        by_room.entry(&person.name).or_default().push(number);
    }
    let (mut messages, mut answers) = (Times::default(), Times::default());
    for (number, said) in said.iter().enumerate() {
        for (text, at) in said {
            let in_room = by_room[everybody[number].name.as_str()].iter().filter(|other| **other != number);
            in_room.for_each(|other| messages.add(*at, came[*other].get(text)));
            answers.add(*at, came[number].get(&format!("echo {text}")));
        }
    }
    // Those in rooms with sound have told what failed until its end.
    let told = [&heard, &of_listeners].into_iter().filter_map(|told| told["failures"].as_array()).flatten();
    let failures: Vec<Value> = told.cloned().chain(failures(&everybody).into_iter().map(Value::from)).collect();
    json!({ "messages": messages.told(), "answers": answers.told(), "sound": heard, "failures": failures })
}

/// Everybody says a text this often, spread as people are who do not know of each other.
async fn texts(everybody: &[Arc<Person>], time: Duration, every: Duration) -> Vec<Said> {
    let began = Instant::now();
    // No text is one of an earlier call that comes late.
    let call = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
    let mut talking = JoinSet::new();
    for (number, person) in everybody.iter().cloned().enumerate() {
        let mut next = began + every.mul_f64(number as f64 / everybody.len() as f64);
        talking.spawn(async move {
            let mut said = Said::new();
            while next < began + time {
                sleep_until(next).await;
                next += every;
                let text = format!("text {} of {} in {}, {call}", said.len(), person.identity, person.name);
                said.push((text.clone(), Instant::now()));
                let (id, topic, options) = (2, TOPIC.into(), SendOptions::default());
                if let Err(refused) = person.room.try_perform(Command::SendText { id, topic, text, options }) {
                    person.state().failures.push(format!("{refused:?}"));
                }
            }
            (number, said)
        });
    }
    let mut all = talking.join_all().await;
    all.sort_by_key(|(number, _)| *number);
    all.into_iter().map(|(_, said)| said).collect()
}

/// How long texts took, of so many.
#[derive(Default)]
struct Times {
    all: usize,
    took: Vec<Duration>,
}

impl Times {
    fn add(&mut self, said: Instant, came: Option<&Instant>) {
        self.all += 1;
        self.took.extend(came.map(|came| came.saturating_duration_since(said)));
    }

    fn told(self) -> Value {
        told(json!({ "all": self.all }), self.took)
    }
}
