"""WebSockets over the contract's sockets, in the style of PyPI's `websockets`:

    async with socket.connect("wss://example.com/speech", subprotocols=["v1"]) as ws:
        await ws.send("hello")
        async for message in ws:
            print(message)

A text is a `str`, all else is `bytes`. The server is made to wait while nobody reads. One task can read while another one sends.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping, Sequence

from wit_world.imports import events
from wit_world.imports import socket as calls

from . import steps

# Bytes that are sent in a step before `writable` is awaited: the contract tells it beyond 64 KiB.
_UNSENT_BYTES_MAX = 64 << 10
# Messages that all sockets send in one step, of 4,096 calls that it may make.
_CALLS_MAX = 1_000
# Messages that may wait to be read while another task waits to send.
_UNREAD_MAX = 256
# The time for the other side's close. The host has a limit too.
_CLOSES_WITHIN_S = 10.0
# Codes of a close that is no error: normal, going away, no code (RFC 6455, section 7.4.1).
_GOOD = (1000, 1001, 1005)
# The code of a connection that was lost.
_LOST = 1006

# The step of the last message, and the messages that were sent in it.
_sent = (0, 0)


class ConnectionClosed(Exception):
    """The connection has ended: `code` and `reason` are the other side's. `code` is 1006 where the connection was lost."""

    def __init__(self, code: int, reason: str):
        super().__init__(f"closed with {code}: {reason or 'no reason'}")
        self.code = code
        self.reason = reason


class ConnectionClosedOK(ConnectionClosed):
    """It was closed by the codes 1000, 1001 or none."""


class ConnectionClosedError(ConnectionClosed):
    """It was closed by another code, or lost."""


def connect(
    uri: str,
    *,
    additional_headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    subprotocols: Sequence[str] = (),
) -> "_Connecting":
    """A connection, for `async with` or `await`. A failure is `steps.CallFailed`: its `code` is the contract's, such as `not-allowed`,
    and its `status` the server's, where the server refused."""
    pairs = additional_headers.items() if isinstance(additional_headers, Mapping) else additional_headers
    return _Connecting(uri, list(pairs), list(subprotocols))


class _Connecting:
    def __init__(self, uri: str, headers: list[tuple[str, str]], protocols: list[str]):
        self._asked = (uri, headers, protocols)
        self._connection: Connection | None = None

    def __await__(self):
        return self._open().__await__()

    async def __aenter__(self) -> "Connection":
        self._connection = await self._open()
        return self._connection

    async def __aexit__(self, kind, error, trace) -> None:
        connection = self._connection
        assert connection is not None
        if isinstance(error, asyncio.CancelledError | GeneratorExit):
            connection._give_up()
        else:
            await connection.close()

    async def _open(self) -> "Connection":
        id = calls.connect(*self._asked, 0)
        channel = steps.Channel(id)
        try:
            while not isinstance(event := await channel.next(), events.Event_SocketOpened):
                pass
        except BaseException:
            channel.close()
            raise
        return Connection(id, channel, event.value.protocol or None)


class Connection:
    """An open WebSocket. Leave the `async with` or `close` it: nothing else ends it before the job does."""

    def __init__(self, id: int, channel: steps.Channel, subprotocol: str | None):
        # The protocol that the server chose.
        self.subprotocol = subprotocol
        self._id = id
        self._channel = channel
        # Who has it takes the next event, for all who wait.
        self._taking = asyncio.Lock()
        self._unread: deque[str | bytes] = deque()
        self._end: ConnectionClosed | None = None
        self._is_closing = False
        self._unsent = 0
        self._sent_in = 0

    @property
    def close_code(self) -> int | None:
        """The code of the close; None while the connection lasts."""
        return self._end.code if self._end else None

    @property
    def close_reason(self) -> str | None:
        return self._end.reason if self._end else None

    async def recv(self) -> str | bytes:
        """The next message, or ConnectionClosed."""
        await self._until(lambda: self._unread or self._end)
        if self._unread:
            return self._unread.popleft()
        raise self._ended()

    async def __aiter__(self):
        """The messages up to the end; ConnectionClosedError where that is an error."""
        try:
            while True:
                yield await self.recv()
        except ConnectionClosedOK:
            return

    async def send(self, message: str | bytes | bytearray | memoryview) -> None:
        """Send a message. Waits first where much is not sent yet. BufferError where then many messages wait to be read, because the
        host tells nothing more before they are."""
        if not isinstance(message, str | bytes | bytearray | memoryview):
            raise TypeError(f"a message is a str or bytes, and not {type(message).__name__}")
        await self._until(self._can_go_on)
        while _sent == (steps.number(), _CALLS_MAX):
            # The next step goes on.
            await asyncio.sleep(0.001)
            await self._until(self._can_go_on)
        if self._end:
            raise self._ended()
        if self._is_closing:
            raise ConnectionClosedError(_LOST, "the agent closes the connection")
        if not self._has_room():
            raise BufferError(f"{len(self._unread)} messages wait to be read")
        data = message.encode() if isinstance(message, str) else bytes(message)
        self._count(len(data))
        if isinstance(message, str):
            calls.send_text(self._id, message)
        else:
            calls.send_bytes(self._id, data)

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection after what was sent, and wait for the other side. Messages that are not read yet are dropped. `close_code`
        tells how it ended."""
        if self._end is None and not self._is_closing:
            calls.close(self._id, code, reason)
        self._is_closing = True
        self._unread.clear()
        try:
            async with asyncio.timeout(_CLOSES_WITHIN_S):
                await self._until(lambda: self._end)
        except TimeoutError:
            self._give_up("the other side does not close the connection")
        except asyncio.CancelledError:
            self._give_up()
            raise

    async def _until(self, is_so) -> None:
        """Take events until this is so."""
        while not is_so():
            async with self._taking:
                # Another one may have taken what this one waits for.
                if not is_so():
                    await self._take()

    async def _take(self) -> None:
        try:
            event = await self._channel.next()
        except steps.CallFailed as failed:
            self._end = ConnectionClosedError(_LOST, str(failed))
            return
        except RuntimeError:
            # Another task gave the connection up meanwhile.
            if self._end is None:
                raise
            return
        match event:
            case events.Event_SocketText(message) if not self._is_closing:
                self._unread.append(message.text)
            case events.Event_SocketBytes(message) if not self._is_closing:
                self._unread.append(message.bytes)
            case events.Event_Writable():
                self._unsent = 0
            case events.Event_SocketClosed(closed):
                self._end = _closed(closed.code, closed.reason)

    def _can_go_on(self) -> bool:
        """Whether a message can be sent, or never will be."""
        is_over = self._end is not None or self._is_closing
        return is_over or self._has_room() or len(self._unread) >= _UNREAD_MAX

    def _has_room(self) -> bool:
        return self._unsent <= _UNSENT_BYTES_MAX

    def _count(self, size: int) -> None:
        global _sent
        number, messages = steps.number(), _sent[1]
        _sent = (number, messages + 1 if _sent[0] == number else 1)
        if self._sent_in != number:
            self._unsent, self._sent_in = 0, number
        self._unsent += size

    def _ended(self) -> ConnectionClosed:
        """The end, as an exception that can be raised once more."""
        assert self._end is not None
        return _closed(self._end.code, self._end.reason)

    def _give_up(self, reason: str = "the agent gave the connection up") -> None:
        self._channel.close()
        if self._end is None:
            self._end = ConnectionClosedError(_LOST, reason)


def _closed(code: int, reason: str) -> ConnectionClosed:
    return (ConnectionClosedOK if code in _GOOD else ConnectionClosedError)(code, reason)
