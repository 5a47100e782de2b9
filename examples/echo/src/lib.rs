//! An agent that repeats what each person says, once the person pauses. Whoever speaks while the agent does interrupts it.
//!
//! ```text
//! wasm-worker run examples/echo
//! wasm-worker run examples/echo --job --audio-in question.wav --audio-out answer.wav
//! ```
//!
//! The host finds where voice begins and ends, so that the agent does nothing while nobody speaks.

use std::cell::RefCell;
use std::rc::Rc;

use wasm_worker_sdk::audio::{AudioEvent, AudioSource, AudioStream, Delivery, Publication, Rule, Subscription};
use wasm_worker_sdk::types::AgentState;
use wasm_worker_sdk::{Agent, Either, JobContext, JoinHandle, Result, select, spawn};

/// Samples of the longest utterance that is repeated whole: 30 s.
const LONGEST: usize = 30 * wasm_worker_sdk::audio::RATE as usize;

#[derive(Default)]
struct Echo;

impl Agent for Echo {
    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        ctx.connect().await?;
        ctx.set_agent_state(AgentState::Listening)?;
        let mouth = Rc::new(Mouth {
            ctx: ctx.clone(),
            voice: ctx.publish_audio(&Publication::default()),
            speaking: RefCell::default(),
        });
        let options = Subscription {
            frames: Delivery::Voiced,
            before_ms: 200,
            after_ms: 200,
            detect_voice: true,
            ..Subscription::default()
        };
        let mut people = ctx.follow_audio(&Rule::people(), options);
        loop {
            match select(people.next(), ctx.shutdown_requested()).await {
                Either::Left(heard) => {
                    let Some(heard) = heard? else { return Ok(()) };
                    spawn("listen", listen(heard, mouth.clone()));
                }
                Either::Right(_) => return Ok(()),
            }
        }
    }
}

/// Hears one person, and has each utterance repeated.
async fn listen(mut heard: AudioStream, mouth: Rc<Mouth>) {
    let mut utterance = Vec::new();
    loop {
        match heard.next().await {
            Ok(Some(AudioEvent::VoiceStarted(_))) => mouth.be_silent(),
            Ok(Some(AudioEvent::Frame(frame))) => {
                let left = LONGEST.saturating_sub(utterance.len());
                utterance.extend(frame.samples().into_iter().take(left));
            }
            Ok(Some(AudioEvent::VoiceEnded(_))) => mouth.say(std::mem::take(&mut utterance)),
            Ok(Some(AudioEvent::Level(_))) => {}
            Ok(None) => return,
            Err(failure) => return log::warn!("a person is not heard: {failure}"),
        }
    }
}

/// The agent's own track.
struct Mouth {
    ctx: JobContext,
    voice: AudioSource,
    /// What is being said.
    speaking: RefCell<Option<JoinHandle<()>>>,
}

impl Mouth {
    /// Begins to say something, in place of what is being said.
    fn say(self: &Rc<Self>, samples: Vec<i16>) {
        self.be_silent();
        let mouth = self.clone();
        let speaking = spawn("speak", async move {
            mouth.show(AgentState::Speaking);
            let spoken = mouth.voice.capture_frame(&samples).await;
            let played = if spoken.is_ok() { mouth.voice.wait_for_playout().await } else { spoken };
            if let Err(failure) = played {
                log::warn!("nothing is said: {failure}");
            }
            mouth.show(AgentState::Listening);
        });
        self.speaking.replace(Some(speaking));
    }

    /// Stops at once.
    fn be_silent(&self) {
        let Some(speaking) = self.speaking.take() else { return };
        if !speaking.is_finished() {
            speaking.abort();
            self.voice.clear_queue();
            self.show(AgentState::Listening);
        }
    }

    fn show(&self, state: AgentState) {
        // A failure of this call is a warning in the log.
        drop(self.ctx.set_agent_state(state));
    }
}

wasm_worker_sdk::agent!(Echo);
