"""The transport of the Python package under `httpx`, against made events: PYTHONPATH=GUEST-SDK/PYTHON python transport_test.py"""

import asyncio

import httpx
from made_job import job, notes, step
from wasm_worker import http
from wit_world.imports import events, last_id

URL = "http://a/x"
client = httpx.AsyncClient(transport=http.transport(httpx))


def head(status=200):
    return events.Event_HttpHead(events.HttpHead(last_id(), status, URL, [("a", "b")]))


def body(content, last=False):
    return events.Event_HttpBody(events.HttpBody(last_id(), content, last))


def failed(code):
    return events.Event_Failed(events.Failure(last_id(), code, 0, "why"))


def writable():
    return events.Event_Writable(last_id())


async def whole(**options):
    answer = await client.get(URL, **options)
    return f"{answer.status_code} {answer.headers['a']} {answer.text}"


async def lines():
    async with client.stream("POST", URL, json={"a": 1}) as answer:
        async for line in answer.aiter_lines():
            notes.append(line)
    return "over"


step(events.Event_Started(None))

# An answer arrives whole or in parts.
assert job(whole) == ([f"send 1 GET {URL} 0 repeatable"], [])
assert step(head(201), body(b"one ")) == ([], [])
assert step(body(b"two", True)) == ([], ["201 b one two"])
assert job(lines) == ([f"send 2 POST {URL} 7 once"], [])
assert step(head(), body(b"one\ntw")) == ([], ["one"])
assert step(body(b"o\n"), body(b"", True)) == ([], ["two", "over"])

# Failures are exceptions of the library, before an answer and in its middle.
for code, name in [
    ("not-allowed", "ConnectError"),
    ("timeout", "ReadTimeout"),
    ("invalid", "LocalProtocolError"),
    ("malformed", "RemoteProtocolError"),
]:
    job(whole)
    assert step(failed(code)) == ([], [f"{name}: {code}: why"]), code
job(whole)
step(head(), body(b"half"))
assert step(failed("interrupted")) == ([], ["ReadError: interrupted: why"])

# Cancelling a task gives up, whenever it comes. What comes later is dropped.
for batch in [lambda: [], lambda: [head(), body(b"x\n")]]:
    tasks = []

    async def cancelled():
        tasks.append(asyncio.create_task(lines()))
        await asyncio.wait(tasks)
        return "cancelled"

    job(cancelled)
    step(*batch())
    tasks[0].cancel()
    assert step() == ([f"cancel {last_id()}"], ["cancelled"])
    assert step(body(b"late"), writable()) == ([], [])


# So does the end of the block.
async def left():
    async with client.stream("GET", URL) as answer:
        async for _ in answer.aiter_lines():
            return "left"


job(left)
assert step(head(), body(b"x\ny\n")) == ([f"cancel {last_id()}"], ["left"])


# The time-outs of the client are kept.
job(lambda: whole(timeout=httpx.Timeout(9, connect=0.05, read=0.05)))
assert step(ms=60) == ([], [])
assert step(ms=60) == ([f"cancel {last_id()}"], ["ReadTimeout: nothing within 0.1 s"])
job(lambda: whole(timeout=0.05))
step(head())
assert step(ms=60) == ([f"cancel {last_id()}"], ["ReadTimeout: nothing within 0.05 s"])


# A large body waits for the host.
async def put():
    return (await client.put(URL, content=bytes(300_000))).status_code


large, _ = job(put)
at, part = last_id(), 65_536
assert large == [f"open {at} PUT {URL} 0 once", f"write {at} {part}", f"write {at} {part}"], large
assert step() == ([], [])
assert step(writable()) == ([f"write {at} {part}", f"write {at} {part}"], [])
assert step(writable()) == ([f"write {at} 37856", f"end {at}"], [])
assert step(head(), body(b"", True)) == ([], [200])


# A streamed body ends where the server answers, and has a time-out.
async def endless():
    while True:
        yield bytes(40_000)


async def post(**options):
    answer = await client.post(URL, content=endless(), **options)
    return f"{answer.status_code} {answer.text}"


job(post)
assert step(head(413), body(b"too much", True)) == ([f"end {last_id()}"], ["413 too much"])
job(lambda: post(timeout=httpx.Timeout(9, write=0.05)))
assert step(ms=60) == ([f"cancel {last_id()}"], ["WriteTimeout: nothing within 0.05 s"])


# The host holds what nobody reads.
async def unread():
    opened.append(await client.send(client.build_request("GET", URL), stream=True))


async def read():
    parts = opened[0].aiter_raw()
    for _ in range(60):
        await anext(parts)


opened: list[httpx.Response] = []
job(unread)
assert step(head(), *[body(b"x") for _ in range(70)])[0] == [f"hold {last_id()} True"]
assert job(read) == ([f"hold {last_id()} False", f"cancel {last_id()}"], [None])


# There are no threads: what libraries hand to one runs at once.
async def in_a_thread():
    return await asyncio.to_thread(sum, [1, 2])


assert job(in_a_thread) == ([], [3])

print("done")
