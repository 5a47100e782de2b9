"""`httpx` over the contract's HTTP: `httpx.AsyncClient(transport=transport(httpx))`. The same for `httpx2`.

Requests and answers stream. The host takes out compression, adds the keys of the operator, and has time limits of its own.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

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


def transport(library):
    """What sends the requests of an `AsyncClient` of this library: the module `httpx`, or `httpx2`.

    The time-outs of the client are kept: `read` for each wait for a part of the answer, `connect` and `read` together for the wait for
    its head, `write` for each wait while the server takes no more. `pool` has no meaning here. A failure of the host is the exception
    of the library that fits; its text begins with the code, such as `not-allowed`.
    """
    of_library = {"library": library, "body": type("Body", (_Body, library.AsyncByteStream), {"library": library})}
    return type("Transport", (_Transport, library.AsyncBaseTransport), of_library)()


class _Transport:
    async def handle_async_request(self, request):
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
        exchange = _Exchange(self.library, id, limits)
        with exchange.giving_up(self.library.ConnectError):
            head = None if whole else await exchange.upload(request.stream)
            if head is None:
                head = await exchange.head()
        return self.library.Response(head.status, headers=head.headers, stream=self.body(exchange), request=request)


class _Body:
    """The body of an answer. The server is made to wait while nobody reads it."""

    def __init__(self, exchange: "_Exchange"):
        self._exchange = exchange

    async def __aiter__(self) -> AsyncIterator[bytes]:
        is_last = False
        # A reader that leaves early gives up the request.
        with self._exchange.giving_up(self.library.ReadError):
            while not is_last:
                part = await self._exchange.part()
                is_last = part.last
                if part.bytes:
                    yield part.bytes

    async def aclose(self) -> None:
        self._exchange.channel.close()


class _Exchange:
    """A request and its answer."""

    def __init__(self, library, id: int, limits: dict[str, float | None]):
        self.channel = steps.Channel(id)
        self._id = id
        self._library = library
        self._limits = limits

    async def upload(self, body) -> events.HttpHead | None:
        """Send the body. An answer that comes earlier ends it, and is returned."""
        unsent, written_in = 0, steps.number()
        async for part in body:
            for at in range(0, len(part), _PART_BYTES_MAX):
                while True:
                    event = self.channel.try_next()
                    if event is None and unsent > _UNSENT_BYTES_MAX:
                        async with self._within(self._limits.get("write"), self._library.WriteTimeout):
                            event = await self.channel.next()
                    match event:
                        case None:
                            break
                        case events.Event_Writable():
                            unsent = 0
                        case events.Event_HttpHead(head):
                            http.end(self._id)
                            return head
                if written_in != steps.number():
                    unsent, written_in = 0, steps.number()
                piece = part[at : at + _PART_BYTES_MAX]
                http.write(self._id, piece)
                unsent += len(piece)
        http.end(self._id)
        return None

    async def head(self) -> events.HttpHead:
        connect, read = self._limits.get("connect"), self._limits.get("read")
        limit = None if connect is None or read is None else connect + read
        return await self._next(events.Event_HttpHead, limit)

    async def part(self) -> events.HttpBody:
        return await self._next(events.Event_HttpBody, self._limits.get("read"))

    async def _next(self, kind: type, limit: float | None):
        async with self._within(limit, self._library.ReadTimeout):
            while not isinstance(event := await self.channel.next(), kind):
                pass
            return event.value

    @contextlib.contextmanager
    def giving_up(self, other: type[Exception]):
        """Give up the request where this fails or is cancelled. `other` is the exception for codes that have none of their own."""
        try:
            yield
        except steps.CallFailed as failed:
            kinds = {"timeout": "ReadTimeout", "invalid": "LocalProtocolError", "malformed": "RemoteProtocolError"}
            kind = getattr(self._library, kinds[failed.code]) if failed.code in kinds else other
            raise kind(str(failed)) from failed
        except BaseException:
            self.channel.close()
            raise

    @contextlib.asynccontextmanager
    async def _within(self, limit: float | None, error: type[Exception]):
        try:
            async with asyncio.timeout(limit):
                yield
        except TimeoutError:
            raise error(f"nothing within {limit} s") from None
