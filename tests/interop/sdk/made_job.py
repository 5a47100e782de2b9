"""A job of the Python package whose events the test makes, and whose works note what they return or raise."""

import asyncio

from wasm_worker import steps
from wit_world.imports import events, taken

notes: list = []
_now = 0.0


def step(*batch, ms=1.0):
    """A step so much later with these events: what was called, and what was noted in it."""
    return step_at(_now + ms, *batch)


def step_at(at, *batch):
    """A step at this time with these events: what was called, and what was noted in it."""
    global _now
    _now = float(at)
    steps.resume(_main, _now, list(batch))
    noted = notes.copy()
    notes.clear()
    return taken(), noted


def job(*works):
    """Begin to note what each of these returns or raises: what was called in the first step, and what was noted in it."""
    return step(*map(events.Event, works))


def job_at(at, *works):
    """The same at this time."""
    return step_at(at, *map(events.Event, works))


async def noting(work):
    try:
        notes.append(await work())
    except Exception as error:
        notes.append(f"{type(error).__name__}: {error}")


async def _main(_):
    tasks = []
    while True:
        work = (await steps.next_event()).value
        tasks.append(asyncio.create_task(noting(work)))
