"""The WebSockets of the Python package, against made events: PYTHONPATH=GUEST-SDK/PYTHON python socket_test.py"""

import asyncio

from made_job import job, notes, step
from wasm_worker import socket, steps
from wit_world.imports import events, last_id

URL = "wss://a/x"
# The connections of the jobs so far.
opened: list[socket.Connection] = []


def is_open(protocol=""):
    return events.Event_SocketOpened(events.SocketOpened(last_id(), protocol, []))


def text(content):
    return events.Event_SocketText(events.SocketText(last_id(), content))


def binary(content):
    return events.Event_SocketBytes(events.SocketBytes(last_id(), content))


def closed(code, reason=""):
    return events.Event_SocketClosed(events.SocketClosed(last_id(), code, reason))


def failed(code, status=0):
    return events.Event_Failed(events.Failure(last_id(), code, status, "why"))


def writable():
    return events.Event_Writable(last_id())


async def connect():
    opened.append(await socket.connect(URL))
    return "open"


def open_one() -> socket.Connection:
    """A connection that is open."""
    job(connect)
    assert step(is_open()) == ([], ["open"])
    return opened[-1]


async def read():
    async for message in opened[-1]:
        notes.append(message)
    return "over"


def send(*messages, ws=None):
    async def send():
        for message in messages:
            await (ws or opened[-1]).send(message)
        return "sent"

    return send


step(events.Event_Started(None))


# Messages in both directions, and the server's close.
async def talk():
    headers = {"X-A": "b"}
    async with socket.connect(URL, additional_headers=headers, subprotocols=["one", "two"]) as ws:
        await ws.send("hé")
        await ws.send(bytearray(b"abc"))
        notes.append((ws.subprotocol, ws.close_code, await ws.recv()))
        async for message in ws:
            notes.append(message)
        return ws.close_code, ws.close_reason


assert job(talk) == ([f"connect 1 {URL} X-A b one two 0"], [])
assert step(is_open("two")) == (["text 1 hé", "bytes 1 3"], [])
assert step(text("one"), binary(b"two")) == ([], [("two", None, "one"), b"two"])
assert step(closed(1001, "bye")) == ([], [(1001, "bye")])

# Other codes are errors, also for those who send, and each time.
for code in (1006, 4000):
    open_one()
    job(read)
    says = f"ConnectionClosedError: closed with {code}: why"
    assert step(text("last"), closed(code, "why")) == ([], ["last", says])
    assert job(read, send("late")) == ([], [says, says])
open_one()
job(read)
assert step(closed(1005)) == ([], ["over"])
assert job(opened[-1].recv) == ([], ["ConnectionClosedOK: closed with 1005: no reason"])
assert job(opened[-1].close) == ([], [None])

# Failures of the host.
assert job(connect)[0] == [f"connect {last_id()} {URL} 0"]
assert step(failed("not-allowed")) == ([], ["CallFailed: not-allowed: why"])


async def status():
    try:
        await socket.connect(URL, additional_headers=[("a", "b"), ("a", "c")])
    except steps.CallFailed as refused:
        return refused.status


assert job(status)[0] == [f"connect {last_id()} {URL} a b a c 0"]
assert step(failed("refused", 401)) == ([], [401])
open_one()
job(read)
assert step(failed("interrupted")) == ([], ["ConnectionClosedError: closed with 1006: interrupted: why"])


# The agent's close waits for the other side, and drops what comes. It does not wait for ever.
async def closing():
    await opened[-1].close(3000, "done")
    return opened[-1].close_code


open_one()
assert job(read, closing) == ([f"close {last_id()} 3000 done"], [])
assert job(send("late"), closing) == ([], ["ConnectionClosedError: closed with 1006: the agent closes the connection"])
calls, noted = step(text("late"), closed(3000, "done"))
assert (calls, sorted(noted, key=str)) == ([], [3000, 3000, "ConnectionClosedError: closed with 3000: done"]), noted
open_one()
job(read, closing)
given_up = "ConnectionClosedError: closed with 1006: the other side does not close the connection"
calls, noted = step(ms=10_000)
assert (calls, sorted(noted, key=str)) == ([f"cancel {last_id()}"], [1006, given_up])


async def hasty():
    async with asyncio.timeout(0.05):
        await opened[-1].close()


open_one()
assert job(hasty)[0] == [f"close {last_id()} 1000 "]
assert step(ms=60) == ([f"cancel {last_id()}"], ["TimeoutError: "])


# The end of a block closes. Cancelling it gives the connection up, also while it opens.
async def left():
    async with socket.connect(URL):
        raise ValueError("left")


job(left)
assert step(is_open()) == ([f"close {last_id()} 1000 "], [])
assert step(closed(1000)) == ([], ["ValueError: left"])


async def within():
    async with asyncio.timeout(0.05), socket.connect(URL) as ws:
        await ws.recv()


for batch in [lambda: [], lambda: [is_open()]]:
    job(within)
    assert step(*batch()) == ([], [])
    assert step(ms=60) == ([f"cancel {last_id()}"], ["TimeoutError: "])

# Whoever sends much waits for the host, while another task reads.
open_one()
job(read)
part = bytes(40_000)
given = f"bytes {last_id()} 40000"
assert job(send(part, part, part, "after")) == ([given, given], [])
assert step(writable()) == ([given, f"text {last_id()} after"], ["sent"])
assert job(send(part, part, "more"))[0] == [given, given]
assert step(text("x")) == ([], ["x"])
assert step(writable()) == ([f"text {last_id()} more"], ["sent"])
assert job(send(part, part, "never"))[0] == [given, given]
lost = "ConnectionClosedError: closed with 1006: gone"
assert step(closed(1006, "gone")) == ([], [lost, lost])

# Whoever sends while nobody reads takes up to 256 messages out of the way, and then fails.
open_one()
job(send(part, part, "never"))
assert step(*[text("x") for _ in range(255)])[1] == []
assert step(text("x"))[1] == ["BufferError: 256 messages wait to be read"]
held = step(*[text("x") for _ in range(70)])[0]
assert held == [f"hold {last_id()} True"], held
calls, noted = job(read)
assert (calls, noted) == ([f"hold {last_id()} False"], ["x"] * 326), (calls, len(noted))
assert step(closed(1000)) == ([], ["over"])

open_one()
job(send(part, part, "never"))
step(*[text("x") for _ in range(256)])
assert job(closing)[0] == [f"close {last_id()} 3000 done"]
assert step(closed(3000)) == ([], [3000])
assert job(opened[-1].recv) == ([], ["ConnectionClosedError: closed with 3000: no reason"])

# Many messages are sent in several steps, of all sockets together.
one, other = open_one(), open_one()
calls, noted = job(send(*["x"] * 1_200, ws=one), send("y", ws=other))
assert (len(calls), noted) == (1_000, [])
calls, noted = step()
assert (len(calls), noted) == (201, ["sent", "sent"])

# What is no message.
assert job(send(1)) == ([], ["TypeError: a message is a str or bytes, and not int"])

print("done")
