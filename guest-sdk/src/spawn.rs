//! Tasks of the agent.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::executor;
use crate::waits::{On, WaitSlot};

/// Begins a task that runs beside the others, on the same thread. It begins when the caller waits.
///
/// An operator sees `name`, and what the task waits for. The task goes on if the handle is dropped, and ends with the
/// job, in the middle of its work.
///
/// ```no_run
/// # async fn example() -> wasm_worker_sdk::Result {
/// use wasm_worker_sdk::{spawn, time::sleep};
/// let table = spawn("load the table", async {
///     sleep(std::time::Duration::from_millis(20)).await;
///     vec![1, 2, 3]
/// });
/// log::info!("{:?}", table.await?);
/// # Ok(())
/// # }
/// ```
pub fn spawn<F>(name: impl Into<Cow<'static, str>>, future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
{
    let output = Rc::new(RefCell::new(None));
    let slot = output.clone();
    let task = executor::spawn(
        name.into(),
        Box::pin(async move {
            let output = future.await;
            slot.replace(Some(output));
        }),
    );
    JoinHandle { task, output, wait: WaitSlot::new(On::Task(task), "join") }
}

/// A task that was [`spawn`]ed. Awaiting it gives its output, or [`Aborted`].
pub struct JoinHandle<T> {
    task: u32,
    output: Rc<RefCell<Option<T>>>,
    wait: WaitSlot,
}

impl<T> JoinHandle<T> {
    /// Drops the task, wherever it waits. A task that has ended stays as it is.
    ///
    /// ```no_run
    /// # async fn example() {
    /// let task = wasm_worker_sdk::spawn("forever", std::future::pending::<()>());
    /// task.abort();
    /// assert!(task.await.is_err());
    /// # }
    /// ```
    pub fn abort(&self) {
        executor::abort(self.task);
    }

    /// Whether the task has ended.
    pub fn is_finished(&self) -> bool {
        !executor::is_alive(self.task)
    }
}

impl<T> Unpin for JoinHandle<T> {}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, Aborted>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context) -> Poll<Self::Output> {
        if executor::is_alive(self.task) {
            self.wait.set(cx.waker());
            return Poll::Pending;
        }
        Poll::Ready(self.output.take().ok_or(Aborted))
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("JoinHandle").field("task", &self.task).finish_non_exhaustive()
    }
}

/// The error of a task that was aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aborted;

impl fmt::Display for Aborted {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("the task was aborted")
    }
}

impl std::error::Error for Aborted {}
