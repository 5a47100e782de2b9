import dataclasses
import types

_calls: list[str] = []
_last_id = 0


def taken() -> list[str]:
    """The calls since this was last asked."""
    calls = _calls.copy()
    _calls.clear()
    return calls


def last_id() -> int:
    return _last_id


def _begin(name: str):
    def begin(request) -> int:
        global _last_id
        _last_id += 1
        repeatable = "repeatable" if request.repeatable else "once"
        _calls.append(f"{name} {_last_id} {request.method} {request.url} {len(request.body)} {repeatable}")
        return _last_id

    return begin


def _connect(uri: str, headers: list[tuple[str, str]], protocols: list[str], timeout_ms: int) -> int:
    global _last_id
    _last_id += 1
    words = [word for pair in headers for word in pair] + protocols
    _calls.append(" ".join(["connect", str(_last_id), uri, *words, str(timeout_ms)]))
    return _last_id


def _note(name: str):
    def note(*words):
        _calls.append(" ".join([name, *(str(len(word) if isinstance(word, bytes) else word) for word in words)]))

    return note


_FIELDS = {
    "Failure": ["id", "code", "status", "message"],
    "HttpHead": ["id", "status", "url", "headers"],
    "HttpBody": ["id", "bytes", "last"],
    "SocketOpened": ["id", "protocol", "headers"],
    "SocketText": ["id", "text"],
    "SocketBytes": ["id", "bytes"],
    "SocketClosed": ["id", "code", "reason"],
    **{
        f"Event_{name}": ["value"]
        for name in (
            *("Started", "TasksWanted", "Done", "Failed", "RpcAnswer", "StreamEnded", "HttpHead", "HttpBody", "Writable"),
            *("SocketOpened", "SocketText", "SocketBytes", "SocketClosed", "AudioEnded"),
        )
    },
    "Event": ["value"],
}
events = types.SimpleNamespace(**{name: dataclasses.make_dataclass(name, fields) for name, fields in _FIELDS.items()})
_REQUEST = ["method", "url", "headers", "body", "timeout_ms", "follow_redirects", "repeatable"]
http = types.SimpleNamespace(
    Request=dataclasses.make_dataclass("Request", _REQUEST),
    send=_begin("send"),
    open=_begin("open"),
    write=_note("write"),
    end=_note("end"),
)
socket = types.SimpleNamespace(connect=_connect, send_text=_note("text"), send_bytes=_note("bytes"), close=_note("close"))
flow = types.SimpleNamespace(cancel=_note("cancel"), hold=_note("hold"))
job = types.SimpleNamespace(
    random=bytes, wake=lambda after_ms: None, finish=_note("finish"), report_tasks=_note("tasks"), Task=lambda *words: words
)
