"""A payload as one JSON line, and the emitter that prints it."""

from __future__ import annotations

import json
import os
import sys
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from strands_token_telemetry.emf import MAX_EVENT_LENGTH, METADATA, copied

if TYPE_CHECKING:
    from collections.abc import Mapping

# Without a check for circular references, which takes a fifth of the time: events have none, and
# in a dict from elsewhere they end in a RecursionError.
_STRICT: Any = {"separators": (",", ":"), "allow_nan": False, "check_circular": False}
_encode_ascii = json.JSONEncoder(**_STRICT).encode
_encode_unicode = json.JSONEncoder(**_STRICT, ensure_ascii=False).encode

# Whether text without a newline may stand on stdout, because the agent has streamed it there. The
# newline must go out in one write with the line, and an emitter may call default_emitter itself.
text_on_stdout: ContextVar[bool] = ContextVar("text_on_stdout", default=False)

# Whether a write has failed, so that half a line may stand there.
_line_is_open = False

# One write is not enough on an unbuffered stdout: a pipe may split one of over 4,096 bytes (PIPE_BUF).
_stdout_lock = threading.RLock()
if hasattr(os, "register_at_fork"):
    # A fork waits for the thread that is writing. In the child that thread would not exist: nobody
    # would release the lock, and what stdout has buffered of its line would be printed twice.
    os.register_at_fork(
        before=_stdout_lock.acquire,
        after_in_parent=_stdout_lock.release,
        after_in_child=_stdout_lock.release,
    )


def default_emitter(payload: dict[str, Any]) -> None:
    """Print `payload` as one line of compact ASCII JSON on `sys.stdout`, and flush it.

    The line stands alone, from whatever thread and after whatever an agent's callback handler has
    streamed. It is valid JSON of at most 256 KB, whatever the payload holds: a value that JSON does
    not know goes out as text, an oversized property is left out with a note in its place.

    Args:
        payload: An EMF event, as `build_emf_payload` returns it. It is not changed.

    Raises:
        OSError, ValueError: Stdout is broken or closed. The hook logs it, with the counts.

    Example:
        >>> from strands_token_telemetry import default_emitter
        >>> default_emitter({"inputTokens": 12})
        {"inputTokens":12}
    """
    global _line_is_open  # noqa: PLW0603 (of the process, as stdout is)
    line = encode(payload)
    with _stdout_lock:
        line = f"\n{line}\n" if _line_is_open or text_on_stdout.get() else f"{line}\n"
        _line_is_open = True
        stdout = sys.stdout
        stdout.write(line)
        stdout.flush()
        _line_is_open = False


def encode(payload: Mapping[str, Any]) -> str:
    """Return `payload` as compact ASCII JSON, whatever it holds, in at most 256 KB."""
    try:
        line = _encode_ascii(payload)
        if "\\ud" in line:  # perhaps a lone surrogate, which strict parsers refuse; and so does UTF-8
            _encode_unicode(payload).encode()
        if len(line) <= MAX_EVENT_LENGTH:
            return line
    except Exception:  # not only json's: a property may be of any class
        pass
    return _encode_by_member(payload)


def _encode_by_member(payload: Mapping[str, Any]) -> str:
    members = {
        _encode_value(name if isinstance(name, str) else _text(name)): _encode_value(value)
        for name, value in payload.items()
    }
    needed = {_encode_value(name) for name in _needed_members(payload)}
    largest_first = sorted(
        (name for name in members if name not in needed),
        key=lambda name: len(name) + len(members[name]),
        reverse=True,
    )
    excess = sum(len(name) + len(text) + 2 for name, text in members.items()) + 1 - MAX_EVENT_LENGTH
    for name in largest_first:
        note = f'"({len(members[name])} bytes left out)"'
        if excess > 0 and len(note) < len(members[name]):
            excess -= len(members[name]) - len(note)
            members[name] = note
    for name in largest_first:  # names too long, or too many
        if excess > 0:
            excess -= len(name) + len(members.pop(name)) + 2
    return "{" + ",".join(f"{name}:{text}" for name, text in members.items()) + "}"


def _needed_members(payload: Mapping[str, Any]) -> set[str]:
    """Return the names of the members without which the event would be no metric."""
    needed = {METADATA}
    try:
        for directive in payload[METADATA]["CloudWatchMetrics"]:
            needed.update(metric["Name"] for metric in directive["Metrics"])
            needed.update(key for keys in directive["Dimensions"] for key in keys)
    except Exception:  # not EMF: default_emitter takes any dict
        pass
    return needed


def _encode_value(value: Any) -> str:
    try:
        _encode_unicode(value).encode()
        return _encode_ascii(value)
    except Exception:
        return _encode_ascii(_readable(copied(value)))


def _readable(value: Any) -> Any:
    """Return `value` as what JSON knows: containers item by item, anything else as it is or as text."""
    try:
        if isinstance(value, dict):
            return {_text(key): _readable(item) for key, item in value.items()}
        if isinstance(value, (list, tuple, set, frozenset)):
            return [_readable(item) for item in value]
        _encode_unicode(value).encode()
    except Exception:  # no JSON value, or a container that can't be iterated
        return _text(value)
    return value


def _text(value: Any) -> str:
    for text_of in (_str, repr, hex):  # hex: for an int of more digits than str takes
        try:
            return text_of(value).encode(errors="backslashreplace").decode()
        except Exception:
            continue
    return object.__repr__(value)


def _str(value: Any) -> str:
    # str() of bytes is an error under python -bb.
    return repr(value) if isinstance(value, (bytes, bytearray)) else str(value)
