//! Asks a model at a steady pace, and tells how long each answer took, in microseconds. Its metadata are the base URL of the model, the
//! number of turns, and the milliseconds from one to the next.

use std::time::Duration;

use wasm_worker_models::{Chat, ChatModel, OpenAi};
use wasm_worker_sdk::{Agent, JobContext, Result, random, time};

#[derive(Default)]
struct Asker;

impl Agent for Asker {
    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        let words: Vec<&str> = ctx.job().metadata.split(' ').collect();
        let [url, turns, every_ms] = words[..] else { return Err("want a URL, turns and milliseconds".into()) };
        let (turns, every_ms): (u32, u64) = (turns.parse()?, every_ms.parse()?);
        let (model, chat) = (OpenAi::new("asked").base_url(url), Chat::new("").user("tell me something"));
        ctx.connect().await?;
        // All jobs together are spread evenly.
        time::sleep(Duration::from_millis(random::u64() % every_ms)).await;
        for _ in 0..turns {
            let began = time::now();
            let answer = model.chat(&chat).whole().await?;
            let took = time::now().duration_since(began)?;
            if answer.text.is_empty() {
                return Err("the answer is empty".into());
            }
            ctx.send_text("turn", &took.as_micros().to_string())?;
            time::sleep(Duration::from_millis(every_ms).saturating_sub(took)).await;
        }
        Ok(())
    }
}

wasm_worker_sdk::agent!(Asker);
