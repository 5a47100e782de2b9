"""Runs an asyncio program in the steps of a job.

A step gives its events to those who wait for them, runs the loop until nothing is ready, sets the job's timer and returns. Tasks, futures,
`asyncio.sleep`, `wait_for` and `timeout` work as always; nothing here blocks or reads a clock.
"""

import asyncio
import collections
import math
import random
import sys
import traceback

from componentize_py_types import Err, Ok
from wit_world.imports import events, flow, job

# Number of events of an id that may wait for the agent before the host is asked to hold the next ones back.
_QUEUED_MAX = 64
# Number of events at which the host is asked to go on.
_QUEUED_LOW = 16
# Number of rules that are over and of which tracks may still be on their way: the last ones.
_RULES_OVER_MAX = 64

# The last events of calls; all others are for channels or for `next_event`.
_LAST = (events.Event_Done, events.Event_Failed, events.Event_RpcAnswer)
# Those for channels alone. Those of an id that was given up are dropped.
_OF_CHANNELS = (
    events.Event_HttpHead,
    events.Event_HttpBody,
    events.Event_SocketOpened,
    events.Event_SocketText,
    events.Event_SocketBytes,
    events.Event_SocketClosed,
    events.Event_Writable,
)
# The last events of channels, beside a part of a body that says so.
_LAST_OF_CHANNELS = (*_LAST, events.Event_SocketClosed, events.Event_StreamEnded, events.Event_AudioEnded)


class CallFailed(Exception):
    """The last event of a call was `failed`. `status` is the server's, where it answered, else 0."""

    def __init__(self, failure: events.Failure):
        super().__init__(f"{failure.code}: {failure.message}" if failure.message else failure.code)
        self.code = failure.code
        self.status = failure.status


class Channel:
    """The events of one id, in their order. It is open until its last event has come, or until `close`.

    `queued_max` is for a track of the agent, whose sound would pause while its events are held back: `math.inf`.
    """

    def __init__(self, id: int, queued_max: float = _QUEUED_MAX):
        if id == 0:
            raise RuntimeError("nothing is sent in this phase of a job")
        self._id = id
        self._queued_max = queued_max
        self._waiting: collections.deque = collections.deque()
        self._held = False
        self._reader: asyncio.Future | None = None
        _channels[id] = self

    async def next(self) -> events.Event:
        """The next event. `failed` is raised as CallFailed. One task at a time waits."""
        while not self._waiting:
            if self._id not in _channels:
                raise RuntimeError("the channel is closed, or its last event was read")
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        return self._take()

    def try_next(self) -> events.Event | None:
        """The next event, if one has come."""
        return self._take() if self._waiting else None

    def close(self) -> None:
        """Give up what the id names."""
        self._waiting.clear()
        if _channels.pop(self._id, None) is not None:
            flow.cancel(self._id)
        self._wake()

    def _push(self, event: events.Event, is_last: bool) -> None:
        self._waiting.append(event)
        if is_last:
            _channels.pop(self._id, None)
        elif not self._held and len(self._waiting) > self._queued_max:
            self._held = True
            flow.hold(self._id, True)
        self._wake()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _take(self) -> events.Event:
        event = self._waiting.popleft()
        if self._held and len(self._waiting) < _QUEUED_LOW:
            self._held = False
            if self._id in _channels:
                flow.hold(self._id, False)
        if isinstance(event, events.Event_Failed):
            raise CallFailed(event.value)
        return event


def channel_of_rule(id: int) -> Channel:
    """The channel of a rule: it has each AudioStarted with the channel of its track."""
    over = [rule for rule in _rules if rule not in _channels]
    for rule in over[:-_RULES_OVER_MAX]:
        del _rules[rule]
    _rules[id] = None
    return Channel(id)


class _NeverReady:
    """The selector of a loop without files."""

    def select(self, timeout):
        return []


class _StepLoop(asyncio.BaseEventLoop):
    """A loop whose time is the step's, in seconds since the job began, and which returns where another would wait."""

    def __init__(self, began_ms: float):
        super().__init__()
        self._selector = _NeverReady()
        self._began_ms = began_ms
        self._now = 0.0
        # A timer is due that much early, since milliseconds are no sums of floats.
        self._clock_resolution = 1e-5

    def time(self) -> float:
        return self._now

    def _process_events(self, event_list):
        pass

    def _write_to_self(self):
        """Nobody waits who would have to be woken."""

    def run_in_executor(self, executor, func, *args):
        """There are no threads: the function runs at once, also that of `asyncio.to_thread`."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def run_step(self, now_ms: float) -> int | None:
        """Run all that is ready. The milliseconds until the next timer is due."""
        self._now = (now_ms - self._began_ms) / 1000
        asyncio._set_running_loop(self)
        # Generators that are left before their end are closed, and so is what they read.
        sys.set_asyncgen_hooks(self._asyncgen_firstiter_hook, self._asyncgen_finalizer_hook)
        try:
            while self._ready or self._is_due():
                self._run_once()
        finally:
            sys.set_asyncgen_hooks(None, None)
            asyncio._set_running_loop(None)
        due = min((timer.when() for timer in self._scheduled if not timer.cancelled()), default=None)
        return None if due is None else max(0, math.ceil((due - self._now - self._clock_resolution) * 1000))

    def _is_due(self) -> bool:
        return any(timer.when() < self._now + self._clock_resolution for timer in self._scheduled)


_loop: _StepLoop | None = None
_main: asyncio.Task | None = None
_step = 0
_now_ms = 0.0
_calls: dict[int, asyncio.Future] = {}
_channels: dict[int, Channel] = {}
# The rules whose tracks are taken from their channels, in the order in which they began.
_rules: dict[int, None] = {}
# The tracks of rules that are over, which began in this batch.
_given_up: set[int] = set()
_events: collections.deque = collections.deque()
_listener: asyncio.Future | None = None


def resume(main, now_ms: float, batch: list[events.Event]) -> None:
    """The export `resume`, of an agent whose job is the coroutine function `main(info)`. It ends the job when it returns or raises."""
    global _loop, _main, _step, _now_ms
    _step += 1
    _now_ms = now_ms
    for event in batch:
        if isinstance(event, events.Event_Started):
            # Python seeds its generator at build time.
            random.seed(job.random(32))
            _loop = _StepLoop(now_ms)
            _main = _loop.create_task(main(event.value), name="main")
        else:
            _deliver(event)
    _given_up.clear()
    if _loop is None or _main is None:
        return
    after_ms = _loop.run_step(now_ms)
    if _main.done():
        job.finish(_outcome(_main))
    else:
        job.wake(after_ms)


async def next_event() -> events.Event:
    """The next event that no call waits for. One task at a time listens."""
    global _listener
    while not _events:
        _listener = asyncio.get_running_loop().create_future()
        await _listener
    return _events.popleft()


async def done(id: int):
    """Wait for the last event of a call: what it says, or CallFailed. Cancelling this cancels the call."""
    _calls[id] = asyncio.get_running_loop().create_future()
    try:
        return await _calls[id]
    except asyncio.CancelledError:
        flow.cancel(id)
        raise
    finally:
        _calls.pop(id, None)


def number() -> int:
    """The number of this step, from 1."""
    return _step


def now_ms() -> float:
    """The time of this step, in milliseconds since 1970."""
    return _now_ms


def _deliver(event: events.Event) -> None:
    value = getattr(event, "value", None)
    if isinstance(event, events.Event_AudioStarted) and value.rule in _rules:
        if value.rule in _channels:
            # The events of the track wait for whoever takes it from its rule.
            _channels[value.rule]._push((event, Channel(value.id)), False)
        else:
            # It was on its way when the agent gave the rule up.
            _given_up.add(value.id)
            flow.cancel(value.id)
        return
    id = value if isinstance(value, int) else getattr(value, "id", None)
    channel = _channels.get(id)
    if channel is not None:
        is_last = isinstance(event, _LAST_OF_CHANNELS) or isinstance(event, events.Event_HttpBody) and event.value.last
        channel._push(event, is_last)
        return
    if isinstance(event, _OF_CHANNELS) or id in _given_up:
        return
    if isinstance(event, events.Event_TasksWanted):
        job.report_tasks([_report(task) for task in sorted(asyncio.all_tasks(_loop), key=asyncio.Task.get_name)])
        return
    if isinstance(event, _LAST):
        call = _calls.pop(event.value.id, None)
        if call is None or call.done():
            if isinstance(event, events.Event_Failed):
                print(f"call {event.value.id} failed: {event.value.code} {event.value.message}", file=sys.stderr)
        elif isinstance(event, events.Event_Failed):
            call.set_exception(CallFailed(event.value))
        else:
            call.set_result(event.value)
        return
    _events.append(event)
    if _listener is not None and not _listener.done():
        _listener.set_result(None)


def _report(task: asyncio.Task) -> job.Task:
    """The innermost coroutine is what the task waits for."""
    coroutine = task.get_coro()
    while hasattr(getattr(coroutine, "cr_await", None), "cr_frame"):
        coroutine = coroutine.cr_await
    return job.Task(task.get_name(), coroutine.__qualname__)


def _outcome(main: asyncio.Task):
    error = asyncio.CancelledError("main was cancelled") if main.cancelled() else main.exception()
    if error is None:
        return Ok(None)
    traceback.print_exception(error)
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno})" if frames else ""
    return Err(f"{type(error).__name__}: {error}{place}")
