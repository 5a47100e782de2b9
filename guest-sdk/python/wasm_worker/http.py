"""`httpx` over the contract's HTTP: `httpx.AsyncClient(transport=Transport())`.

Requests and answers stream. The host takes out compression, adds the keys of the operator, and has time limits of its own.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import httpx
from wit_world.imports import events, http

from . import steps

# A body up to this many bytes is sent in one call.
_WHOLE_BYTES_MAX = 256 << 10
# Bytes of a larger one in one call.
_PART_BYTES_MAX = 64 << 10
# Bytes that are written in a step before `writable` is awaited: the contract tells it beyond 64 KiB.
_UNSENT_BYTES_MAX = 64 << 10
# The host may send these again, where they were lost with a worker.
_REPEATABLE = ("GET", "HEAD", "PUT", "DELETE", "OPTIONS")


class Transport(httpx.AsyncBaseTransport):
    """Sends the requests of an `httpx.AsyncClient`.

    The time-outs of `httpx` are kept: `read` for each wait for a part of the answer, `connect` and `read` together for the wait for its
    head, `write` for each wait while the server takes no more. `pool` has no meaning here. A failure of the host is the exception of
    `httpx` that fits; its text begins with the code, such as `not-allowed`.
    """

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        limits = request.extensions.get("timeout", {})
        length = request.headers.get("content-length", "0")
        whole = "transfer-encoding" not in request.headers and int(length) <= _WHOLE_BYTES_MAX
        body = b"".join([part async for part in request.stream]) if whole else b""
        asked = http.Request(
            method=request.method,
            url=str(request.url),
            headers=[(name.decode("ascii"), value.decode("latin-1")) for name, value in request.headers.raw],
            body=body,
            timeout_ms=0,
            follow_redirects=False,
            repeatable=whole and request.method in _REPEATABLE,
        )
        id = http.send(asked) if whole else http.open(asked)
        channel = steps.Channel(id)
        with _giving_up(channel, httpx.ConnectError):
            head = None if whole else await _upload(channel, id, request, limits.get("write"))
            if head is None:
                head = await _head(channel, limits)
        stream = _Body(channel, limits.get("read"))
        return httpx.Response(head.status, headers=head.headers, stream=stream, request=request)


class _Body(httpx.AsyncByteStream):
    """The body of an answer. The server is made to wait while nobody reads it."""

    def __init__(self, channel: steps.Channel, limit: float | None):
        self._channel = channel
        self._limit = limit

    async def __aiter__(self) -> AsyncIterator[bytes]:
        is_last = False
        while not is_last:
            with _giving_up(self._channel, httpx.ReadError):
                async with _within(self._limit, httpx.ReadTimeout, "no part of the answer"):
                    event = await self._channel.next()
            if isinstance(event, events.Event_HttpBody):
                is_last = event.value.last
                if event.value.bytes:
                    yield event.value.bytes

    async def aclose(self) -> None:
        self._channel.close()


async def _upload(channel: steps.Channel, id: int, request: httpx.Request, limit: float | None) -> events.HttpHead | None:
    """Send the body. An answer that comes earlier ends it, and is returned."""
    unsent, written_in = 0, steps.number()
    async for part in request.stream:
        for at in range(0, len(part), _PART_BYTES_MAX):
            while True:
                event = channel.try_next()
                if event is None and unsent > _UNSENT_BYTES_MAX:
                    async with _within(limit, httpx.WriteTimeout, "the server takes no more of the request"):
                        event = await channel.next()
                match event:
                    case None:
                        break
                    case events.Event_Writable():
                        unsent = 0
                    case events.Event_HttpHead(head):
                        http.end(id)
                        return head
            if written_in != steps.number():
                unsent, written_in = 0, steps.number()
            piece = part[at : at + _PART_BYTES_MAX]
            http.write(id, piece)
            unsent += len(piece)
    http.end(id)
    return None


async def _head(channel: steps.Channel, limits: dict[str, float | None]) -> events.HttpHead:
    connect, read = limits.get("connect"), limits.get("read")
    limit = None if connect is None or read is None else connect + read
    async with _within(limit, httpx.ReadTimeout, "no answer"):
        while True:
            event = await channel.next()
            if isinstance(event, events.Event_HttpHead):
                return event.value


@contextlib.contextmanager
def _giving_up(channel: steps.Channel, other: type[httpx.TransportError]):
    """Give up the request where this fails or is cancelled. `other` is the exception for codes that have none of their own."""
    try:
        yield
    except steps.CallFailed as failed:
        kinds = {"timeout": httpx.ReadTimeout, "invalid": httpx.LocalProtocolError, "malformed": httpx.RemoteProtocolError}
        raise kinds.get(failed.code, other)(str(failed)) from failed
    except BaseException:
        channel.close()
        raise


@contextlib.asynccontextmanager
async def _within(limit: float | None, error: type[httpx.TimeoutException], what: str):
    try:
        async with asyncio.timeout(limit):
            yield
    except TimeoutError:
        raise error(f"{what} within {limit} s") from None
