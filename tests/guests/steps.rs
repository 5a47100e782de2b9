//! What the contract says of steps, tried without the SDK's executor: the metadata of the job names the trial, and what came
//! of it is sent as texts of the topic `said`.
#![expect(clippy::disallowed_types, reason = "a guest has no runtime of tokio, and the clock of WASI is what it shows")]

use std::cell::RefCell;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use wasm_worker_sdk::bindings::wasm_worker::agent::events::Event;
use wasm_worker_sdk::bindings::wasm_worker::agent::{flow, http, job, room, socket, trace, types};
use wasm_worker_sdk::bindings::{Guest, export_agent};
use wasm_worker_sdk::types::{Decision, JobInfo};

/// Long enough for what happens at once.
const PAUSE_MS: f64 = 50.0;

#[derive(Default)]
struct Trial {
    name: String,
    /// Steps so far, this one included.
    step: u32,
    /// What is to be said.
    said: Vec<String>,
    ids: Vec<u32>,
    /// When an earlier step was.
    then: f64,
    /// What `prewarm` and `decide` were told.
    before: Vec<String>,
}

thread_local! {
    static TRIAL: RefCell<Trial> = RefCell::default();
}

struct Steps;

impl Guest for Steps {
    fn prewarm() -> Result<(), String> {
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        let acts = forbidden();
        TRIAL.with_borrow_mut(|trial| {
            trial.before.push(format!("prewarm {:?} {clock} {acts}", wasip2::random::random::get_random_u64()));
        });
        Ok(())
    }

    fn decide(_: JobInfo) -> Decision {
        let acts = forbidden();
        TRIAL.with_borrow_mut(|trial| trial.before.push(format!("decide {acts}")));
        Decision::accept()
    }

    fn resume(now_ms: f64, batch: Vec<Event>) {
        TRIAL.with_borrow_mut(|trial| {
            trial.step += 1;
            if let [Event::Started(info)] = &batch[..] {
                trial.name.clone_from(&info.metadata);
            }
            let run = match trial.name.as_str() {
                "trap" => Trial::trap,
                "killed" => Trial::killed,
                "too many calls" => Trial::too_many_calls,
                "time" => Trial::time,
                "chance" => Trial::chance,
                "last step" => Trial::last_step,
                "ids" => Trial::ids,
                "lost" => Trial::lost,
                "not joined" => Trial::not_joined,
                "not supported" => Trial::not_supported,
                "cancel" => Trial::cancel,
                "batches" => Trial::batches,
                "timer" => Trial::timer,
                "participants" => Trial::participants,
                "before" => Trial::before,
                "wait" => Trial::wait,
                other => panic!("no trial is called `{other}`"),
            };
            run(trial, now_ms, &batch);
            for line in trial.said.drain(..) {
                send("said", &line);
            }
        });
    }
}

/// Calls that do nothing outside of a job. What they answered.
fn forbidden() -> String {
    let ids = [room::connect(), send("said", "too early"), room::set_name("nobody")];
    job::wake(Some(0));
    job::finish(Err("too early"));
    format!("{ids:?} {}", room::participants().len())
}

fn send(topic: &str, text: &str) -> u32 {
    room::send_text(topic, text, &types::SendOptions::default())
}

impl Trial {
    fn say(&mut self, line: impl Into<String>) {
        self.said.push(line.into());
    }

    /// A step whose texts are sent, and one that traps after its own.
    fn trap(&mut self, _: f64, _: &[Event]) {
        if self.step == 1 {
            room::connect();
            self.say("kept");
            return job::wake(Some(0));
        }
        send("said", "of the step that trapped");
        room::set_attributes(&[("of".into(), "the step that trapped".into())]);
        panic!("after its texts");
    }

    fn killed(&mut self, _: f64, _: &[Event]) {
        if self.step == 1 {
            room::connect();
            self.say("kept");
            return job::wake(Some(0));
        }
        send("said", "of the step that never ended");
        for n in 0_u64.. {
            std::hint::black_box(n);
        }
    }

    fn too_many_calls(&mut self, _: f64, _: &[Event]) {
        if self.step == 1 {
            room::connect();
            self.say("kept");
            return job::wake(Some(0));
        }
        send("said", "of the step that made too many calls");
        (0..5_000).for_each(flow::cancel);
    }

    /// Whether time stands still in a step, for all clocks, and goes on between them.
    fn time(&mut self, now_ms: f64, _: &[Event]) {
        let went = now_ms - self.then;
        if self.step > 1 && went < PAUSE_MS {
            // What was sent is done; the timer stays.
            self.step -= 1;
            return;
        }
        room::connect();
        let (wall, clock) = (SystemTime::now(), Instant::now());
        for n in 0..20_000_000_u64 {
            std::hint::black_box(n);
        }
        let stood = wall == SystemTime::now() && clock.elapsed().is_zero();
        let apart = (wall.duration_since(UNIX_EPOCH).unwrap().as_secs_f64() * 1_000.0 - now_ms).abs();
        self.say(format!("stood {stood}, same {}", apart < 1.0));
        self.then = now_ms;
        match self.step {
            1..4 => job::wake(Some(50)),
            _ => job::finish(Ok(())),
        }
    }

    fn chance(&mut self, _: f64, _: &[Event]) {
        room::connect();
        let said = self.before[0].clone();
        self.say(said);
        self.say(format!("{:?}", job::random(16)));
        self.say(format!("{:?}", wasip2::random::random::get_random_bytes(16)));
        job::finish(Ok(()));
    }

    /// Everything that is sent in the last step, and nothing before it but the join.
    fn last_step(&mut self, _: f64, _: &[Event]) {
        if self.step == 1 {
            room::connect();
            return;
        }
        self.say("the last words");
        let parts = room::open_text("parts", &types::SendOptions::default());
        room::write_text(parts, "one, ");
        room::write_text(parts, "two");
        room::close_stream(parts, &[]);
        room::set_attributes(&[("mood".into(), "good".into())]);
        job::finish(Ok(()));
    }

    /// Ids count from 1, and each has one last event.
    fn ids(&mut self, now_ms: f64, batch: &[Event]) {
        if self.step == 1 {
            self.ids = vec![room::connect(), send("greeting", "hello"), room::set_name("ann")];
            let parts = room::open_text("parts", &types::SendOptions::default());
            room::close_stream(parts, &[]);
            self.ids.extend([parts, room::send_data("topic", b"lossy", &[], false), room::set_metadata("m")]);
            let ids = format!("{:?}", self.ids);
            self.say(ids);
            self.then = now_ms;
            return job::wake(Some(50));
        }
        for event in batch {
            match event {
                Event::Done(done) if self.ids.contains(&done.id) => self.say(format!("done {}", done.id)),
                Event::Failed(failed) => self.say(format!("failed {} {}", failed.id, failed.code)),
                _ => {}
            }
        }
        if now_ms - self.then >= PAUSE_MS {
            job::finish(Ok(()));
        }
    }

    /// Joins late, so that more comes than it may be given, and hears of that.
    fn lost(&mut self, _: f64, batch: &[Event]) {
        match self.step {
            1 => return job::wake(Some(300)),
            2 => drop(room::connect()),
            _ => {}
        }
        for event in batch {
            match event {
                Event::Text(message) => self.say(message.text.clone()),
                Event::Lost(loss) => self.say(format!("lost {} of {} {}", loss.count, loss.what, loss.id)),
                _ => {}
            }
        }
        if self.step > 2 && batch.iter().any(|event| matches!(event, Event::Lost(_))) {
            job::finish(Ok(()));
        }
    }

    /// A send without a room; the failure is the job's.
    fn not_joined(&mut self, _: f64, batch: &[Event]) {
        if self.step == 1 {
            self.ids = vec![send("said", "to nobody"), room::open_text("parts", &types::SendOptions::default())];
        }
        for event in batch {
            if let Event::Failed(failed) = event {
                self.before.push(format!("{} {}", failed.id, failed.code));
            }
        }
        if self.before.len() > 3 {
            job::finish(Err(&self.before[2..].join(", ")));
        }
    }

    /// Calls that this host cannot carry out yet.
    fn not_supported(&mut self, _: f64, batch: &[Event]) {
        if self.step == 1 {
            room::connect();
            let request = http::Request {
                method: "GET".into(),
                url: "https://example.com".into(),
                headers: Vec::new(),
                body: Vec::new(),
                timeout_ms: 0,
                follow_redirects: true,
                repeatable: false,
            };
            self.ids = vec![
                http::send(&request),
                socket::connect("wss://example.com", &[], &[], 0),
                trace::begin("turn", 0, 0.0),
                room::remove_participant("ann"),
                room::delete_room(),
                room::call("ann", "method", "payload", 0),
            ];
            return;
        }
        for event in batch {
            if let Event::Failed(failed) = event
                && self.ids.contains(&failed.id)
            {
                self.ids.retain(|id| *id != failed.id);
                self.say(format!("{} {}", failed.code, failed.status));
            }
        }
        if self.ids.is_empty() {
            job::finish(Ok(()));
        }
    }

    /// Gives up a text before it is sent, and hears no more of it.
    fn cancel(&mut self, now_ms: f64, batch: &[Event]) {
        if self.step == 1 {
            room::connect();
            let parts = room::open_text("parts", &types::SendOptions::default());
            room::write_text(parts, "never mind");
            flow::cancel(parts);
            room::write_text(parts, "after its end");
            room::close_stream(parts, &[]);
            self.ids = vec![parts];
            self.then = now_ms;
            return job::wake(Some(50));
        }
        for event in batch {
            match event {
                Event::Done(done) if self.ids.contains(&done.id) => self.say("done, though it was cancelled"),
                Event::Failed(failed) if self.ids.contains(&failed.id) => self.say("failed, though it was cancelled"),
                _ => {}
            }
        }
        if now_ms - self.then >= PAUSE_MS {
            self.say("nothing is heard of it");
            job::finish(Ok(()));
        }
    }

    /// How the texts of a full room come: in batches of at most 64, in order.
    fn batches(&mut self, _: f64, batch: &[Event]) {
        match self.step {
            1 => {
                self.before.clear();
                self.then = 0.0;
                return job::wake(Some(300));
            }
            2 => drop(room::connect()),
            _ => {}
        }
        self.then = self.then.max(batch.len() as f64);
        for event in batch {
            if let Event::Text(message) = event {
                self.before.push(message.text.clone());
            }
        }
        if self.before.len() == 200 {
            let ordered = self.before.iter().enumerate().all(|(n, text)| *text == n.to_string());
            self.say(format!("at most {} at once, in order: {ordered}", self.then));
            job::finish(Ok(()));
        }
    }

    /// The last of two timers counts; a step before it is due leaves it set; the one that is due uses it up, and nothing comes
    /// after that.
    fn timer(&mut self, now_ms: f64, _: &[Event]) {
        if self.step == 1 {
            job::wake(Some(60_000));
            job::wake(Some(400));
            room::connect();
            self.then = now_ms;
            return;
        }
        let what = if now_ms - self.then < 400.0 { "earlier" } else { "due" };
        if !self.before.iter().any(|said| said == what) {
            self.before.push(what.into());
            self.say(what);
        }
    }

    /// Who is there, as each step is told.
    fn participants(&mut self, _: f64, batch: &[Event]) {
        if self.step == 1 {
            room::connect();
        }
        for event in batch {
            let what = match event {
                Event::ParticipantJoined(who) => format!("{} joined", who.identity),
                Event::ParticipantLeft(departure) => format!("{} left", departure.participant.identity),
                Event::Connected(joined) => format!("connected as {}", joined.local.identity),
                _ => continue,
            };
            let there: Vec<String> = room::participants().into_iter().map(|who| who.identity).collect();
            self.say(format!("{what}: {}", there.join(",")));
            if what == "ann left" {
                job::finish(Ok(()));
            }
        }
    }

    /// What `prewarm` and `decide` were answered.
    fn before(&mut self, _: f64, _: &[Event]) {
        room::connect();
        let before = self.before.clone();
        before.into_iter().for_each(|line| self.say(line));
        job::finish(Ok(()));
    }

    /// Waits for a day.
    fn wait(&mut self, _: f64, batch: &[Event]) {
        for event in batch {
            if let Event::ShutdownRequested(_) = event {
                return job::finish(Ok(()));
            }
        }
        job::wake(Some(86_400_000));
    }
}

export_agent!(Steps with_types_in wasm_worker_sdk::bindings);
