import dataclasses
import enum
import types

_calls: list[str] = []
_written: list[bytes] = []
_last_id = 0


def taken() -> list[str]:
    """The calls since this was last asked."""
    calls = _calls.copy()
    _calls.clear()
    return calls


def written() -> list[bytes]:
    """The bytes of sound that were written since this was last asked."""
    written = _written.copy()
    _written.clear()
    return written


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


def _sound(name: str, words):
    def begin(*all) -> int:
        global _last_id
        _last_id += 1
        _calls.append(" ".join([name, str(_last_id), *map(str, words(*all))]))
        return _last_id

    return begin


def _note(name: str):
    def note(*words):
        _calls.append(" ".join([name, *(str(len(word) if isinstance(word, bytes) else word) for word in words)]))

    return note


def _write(id: int, pcm: bytes):
    _written.append(pcm)
    _note("write")(id, pcm)


_FIELDS = {
    "Failure": ["id", "code", "status", "message"],
    "HttpHead": ["id", "status", "url", "headers"],
    "HttpBody": ["id", "bytes", "last"],
    "SocketOpened": ["id", "protocol", "headers"],
    "SocketText": ["id", "text"],
    "SocketBytes": ["id", "bytes"],
    "SocketClosed": ["id", "code", "reason"],
    "Track": ["sid", "participant"],
    "AudioStart": ["id", "rule", "track"],
    "AudioFrame": ["id", "at_ms", "concealed_ms", "dropped_ms", "pcm"],
    "Voice": ["id", "at_ms"],
    "Playout": ["id", "state", "played_ms", "at_ms"],
    "AudioMark": ["id", "mark", "cleared", "played_ms", "at_ms"],
    "Completion": ["id", "value"],
    **{
        f"Event_{name}": ["value"]
        for name in (
            *("Started", "TasksWanted", "Done", "Failed", "RpcAnswer", "StreamEnded", "HttpHead", "HttpBody", "Writable"),
            *("SocketOpened", "SocketText", "SocketBytes", "SocketClosed", "AudioEnded", "AudioStarted", "Audio"),
            *("VoiceStarted", "VoiceEnded", "AudioSubscribed", "AudioPlayout", "AudioMarked"),
        )
    },
    "Event": ["value"],
}
events = types.SimpleNamespace(**{name: dataclasses.make_dataclass(name, fields) for name, fields in _FIELDS.items()})
events.PlayoutState = enum.Enum("PlayoutState", ["PLAYING", "DRAINED", "CLEARED", "HELD"])
_REQUEST = ["method", "url", "headers", "body", "timeout_ms", "follow_redirects", "repeatable"]
http = types.SimpleNamespace(
    Request=dataclasses.make_dataclass("Request", _REQUEST),
    send=_begin("send"),
    open=_begin("open"),
    write=_note("write"),
    end=_note("end"),
)
socket = types.SimpleNamespace(connect=_connect, send_text=_note("text"), send_bytes=_note("bytes"), close=_note("close"))
_SUBSCRIPTION = ["rate", "frame_ms", "frames", "before_ms", "after_ms", "detect_voice", "threshold", "min_voice_ms", "min_silence_ms", "level_ms"]
audio = types.SimpleNamespace(
    Delivery=enum.Enum("Delivery", ["ALL", "VOICED", "NONE"]),
    Subscription=dataclasses.make_dataclass("Subscription", _SUBSCRIPTION),
    Rule=dataclasses.make_dataclass("Rule", ["participant", "source", "people"]),
    Publication=dataclasses.make_dataclass("Publication", ["name", "source", "rate", "bits_per_second"]),
    subscribe=_sound("subscribe", lambda sid, options: [sid, options.rate, options.frames.name, options.detect_voice]),
    follow=_sound(
        "follow",
        lambda rule, options: [rule.participant, rule.source, rule.people, options.rate, options.frames.name, options.detect_voice],
    ),
    publish=_sound("publish", lambda options: [options.name, options.source, options.rate, options.bits_per_second]),
    write=_write,
    **{name: _note(name) for name in ("mark", "mute", "clear", "close")},
)
flow = types.SimpleNamespace(cancel=_note("cancel"), hold=_note("hold"))
job = types.SimpleNamespace(
    random=bytes, wake=lambda after_ms: None, finish=_note("finish"), report_tasks=_note("tasks"), Task=lambda *words: words
)
