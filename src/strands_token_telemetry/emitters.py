"""An event as one line on stdout."""

from __future__ import annotations

import io
import json
import os
import sys
import threading
from typing import Any

from strands_token_telemetry.emf import plain

# Without the check for circular references, which takes a fifth of the time: an event has none.
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False, check_circular=False).encode

_newline_first = False

_lock = threading.RLock()


def _renew_lock() -> None:
    """Replace the lock in a forked child, where no thread is left to release the old one."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def default_emitter(payload: dict[str, Any]) -> None:
    """Print `payload` as one line of compact ASCII JSON on `sys.stdout`, at once.

    The line stands alone, whichever thread prints it. If an agent with a callback handler has emitted an
    event in this process, a newline comes first, because the text that it streamed may not end with one.

    Args:
        payload: An EMF event, as `build_emf_payload` returns it. It is not changed. Anything that JSON
            cannot represent becomes a string.

    Raises:
        OSError, ValueError: Stdout is broken, closed or full. The hook logs it, with the event.

    Example:
        >>> from strands_token_telemetry import default_emitter
        >>> default_emitter({"inputTokens": 12})
        {"inputTokens":12}
    """
    line = encode(payload)
    with _lock:
        try:
            _write(f"\n{line}\n" if _newline_first else f"{line}\n")
        except BaseException:
            begin_with_newline()  # part of the line may be written
            raise


def encode(payload: dict[str, Any]) -> str:
    """Return `payload` as compact ASCII JSON."""
    try:
        return _encode(payload)
    except Exception:  # not plain JSON data, because an emitter has changed the event or made its own
        return _encode(plain(payload))


def begin_with_newline() -> None:
    """Begin all further lines of this process with a newline, because text may stand before them."""
    global _newline_first
    _newline_first = True


def _write(text: str) -> None:
    """Write a text to stdout, past all buffers."""
    stdout = sys.stdout
    if type(stdout) is not io.TextIOWrapper:  # replaced, by a notebook or a test for example
        stdout.write(text)
        if hasattr(stdout, "flush"):
            stdout.flush()
        return
    # A text layer without a buffer does not notice that a non-blocking pipe has taken only a part.
    stdout.flush()
    buffer: Any = stdout.buffer
    raw = getattr(buffer, "raw", buffer)
    data = text.encode()
    while data:
        written = raw.write(data)
        if written is None:  # a non-blocking pipe that is full
            raise BlockingIOError("stdout takes no more")
        data = data[written:]
    if raw is buffer:  # the buffer of a socket, for example, has no raw file
        buffer.flush()
