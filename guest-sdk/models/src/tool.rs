//! Tools: a description for the model, and a function of the agent.

use std::fmt;
use std::pin::Pin;
use std::rc::Rc;

use serde_json::Value;
use wasm_worker_sdk::Error;

use crate::ToolInfo;

type Handler = Rc<dyn Fn(Value) -> Pin<Box<dyn Future<Output = Result<String, Error>>>>>;

/// A tool that a model can call.
#[derive(Clone)]
pub struct Tool {
    info: ToolInfo,
    handler: Handler,
}

impl Tool {
    /// A tool with its name, its purpose, the JSON schema of its arguments, and the function that runs.
    ///
    /// The function gets the arguments, which are a JSON object; the model may have left some out. Its result is the
    /// text that the model is told; the text of its error too, so no secret belongs into one.
    ///
    /// ```
    /// use wasm_worker_models::{Tool, json};
    /// let schema = json!({
    ///     "type": "object",
    ///     "properties": { "city": { "type": "string" } },
    ///     "required": ["city"],
    /// });
    /// let weather = Tool::new("get_weather", "Tells the weather of a city.", schema, async |arguments| {
    ///     let city = arguments["city"].as_str().ok_or("the city is missing")?;
    ///     Ok(format!("it rains in {city}"))
    /// });
    /// ```
    pub fn new<F, Fut>(name: impl Into<String>, description: impl Into<String>, parameters: Value, run: F) -> Self
    where
        F: Fn(Value) -> Fut + 'static,
        Fut: Future<Output = Result<String, Error>> + 'static,
    {
        let info = ToolInfo { name: name.into(), description: description.into(), parameters, strict: false };
        Self { info, handler: Rc::new(move |arguments| Box::pin(run(arguments))) }
    }

    /// Has the model keep to the schema exactly, where its server can do that.
    ///
    /// ```
    /// # fn example(weather: wasm_worker_models::Tool) {
    /// let weather = weather.strict();
    /// # }
    /// ```
    #[must_use]
    pub fn strict(mut self) -> Self {
        self.info.strict = true;
        self
    }

    /// The description for the model.
    pub fn info(&self) -> &ToolInfo {
        &self.info
    }

    /// Runs the tool with the arguments that a model wrote.
    pub(crate) async fn run(&self, arguments: &str) -> Result<String, Error> {
        let arguments: Value =
            serde_json::from_str(arguments).map_err(|error| format!("the arguments are no JSON: {error}"))?;
        if !arguments.is_object() {
            return Err("the arguments are no JSON object".into());
        }
        (self.handler)(arguments).await
    }
}

impl fmt::Debug for Tool {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Tool").field("name", &self.info.name).finish_non_exhaustive()
    }
}
