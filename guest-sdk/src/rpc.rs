//! Remote procedure calls, from and to participants.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use crate::bindings::wasm_worker::agent::room;
use crate::types::{RpcError, RpcRequest};
use crate::{Either, Event, JobContext, Operation, executor, select};

type Answer = Pin<Box<dyn Future<Output = Result<String, RpcError>>>>;
type Handler = Rc<dyn Fn(RpcRequest) -> Answer>;

thread_local! {
    static METHODS: RefCell<Vec<(String, Handler)>> = const { RefCell::new(Vec::new()) };
}

impl JobContext {
    /// Answers every request for `method` by this handler. Each request runs in a task of its own, which ends when the
    /// caller is gone.
    ///
    /// A method that is registered again gets the new handler. A request for any other method arrives as
    /// [`Event::RpcRequest`], and wants an [`answer`](Self::answer).
    ///
    /// ```no_run
    /// # fn example(ctx: &wasm_worker_sdk::JobContext) {
    /// use wasm_worker_sdk::types::RpcError;
    /// ctx.register_rpc_method("double", async |request| {
    ///     let number: u32 = request.payload.parse().map_err(|_| RpcError::new(1, "want a number"))?;
    ///     Ok((number * 2).to_string())
    /// });
    /// # }
    /// ```
    pub fn register_rpc_method<F, Fut>(&self, method: impl Into<String>, handler: F)
    where
        F: Fn(RpcRequest) -> Fut + 'static,
        Fut: Future<Output = Result<String, RpcError>> + 'static,
    {
        let method = method.into();
        let handler: Handler = Rc::new(move |request| -> Answer { Box::pin(handler(request)) });
        let old = METHODS.with_borrow_mut(|methods| match methods.iter_mut().find(|(name, _)| *name == method) {
            Some((_, kept)) => Some(std::mem::replace(kept, handler)),
            None => {
                methods.push((method, handler));
                None
            }
        });
        drop(old);
    }

    /// Answers a request that arrived as [`Event::RpcRequest`]. A second answer does nothing.
    ///
    /// ```no_run
    /// # fn example(ctx: &wasm_worker_sdk::JobContext, request: wasm_worker_sdk::types::RpcRequest) {
    /// ctx.answer(request.id, Ok("done".into()));
    /// # }
    /// ```
    pub fn answer(&self, request: u32, answer: Result<String, RpcError>) {
        room::answer(request, answer.as_ref().map(String::as_str));
    }

    /// Calls a method of a participant and waits for the answer, at most for `timeout`. Dropping the future gives the
    /// call up.
    ///
    /// A call that the host cannot make fails with [`RpcError::SEND_FAILED`].
    ///
    /// ```no_run
    /// # async fn example(ctx: &wasm_worker_sdk::JobContext) -> wasm_worker_sdk::Result {
    /// let timeout = std::time::Duration::from_secs(10);
    /// let place = ctx.perform_rpc("ann", "get_location", "{}", timeout).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn perform_rpc(
        &self,
        destination: &str,
        method: &str,
        payload: &str,
        timeout: Duration,
    ) -> Result<String, RpcError> {
        let timeout_ms = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
        let mut call = Operation::new(room::call(destination, method, payload, timeout_ms), "perform_rpc");
        loop {
            match call.next().await {
                Some(Event::RpcAnswer(answer)) => return answer.answer,
                Some(Event::Failed(failure)) => {
                    return Err(RpcError::new(RpcError::SEND_FAILED, failure.to_string()));
                }
                Some(_) => {}
                None => return Err(RpcError::new(RpcError::SEND_FAILED, "in this phase of a job nothing is sent")),
            }
        }
    }
}

/// Takes a request for a registered method, and gives back any other event.
pub(crate) fn take(event: Event) -> Option<Event> {
    let Event::RpcRequest(request) = event else { return Some(event) };
    let handler = METHODS.with_borrow(|methods| {
        methods.iter().find(|(name, _)| *name == request.method).map(|(_, handler)| handler.clone())
    });
    let Some(handler) = handler else { return Some(Event::RpcRequest(request)) };
    let name = format!("rpc {}", request.method);
    executor::spawn(name.into(), Box::pin(serve(handler, request)));
    None
}

async fn serve(handler: Handler, request: RpcRequest) {
    let mut caller = Operation::new(request.id, "");
    // The only event of a request is the failure that tells that its caller is gone.
    if let Either::Left(answer) = select(handler(request), caller.next()).await {
        room::answer(caller.id(), answer.as_ref().map(String::as_str));
        caller.ended();
    }
}
