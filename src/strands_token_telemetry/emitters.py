"""An event as one line on stdout."""

from __future__ import annotations

import io
import json
import os
import sys
import threading
from typing import Any

from strands_token_telemetry.emf import to_json_data

# Without the check for circular references, which takes a fifth of the time: an event has none.
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False, check_circular=False).encode

_lock = threading.RLock()

if hasattr(os, "register_at_fork"):  # a forked child has no thread that could release the old lock
    os.register_at_fork(after_in_child=lambda: globals().update(_lock=threading.RLock()))


def default_emitter(payload: dict[str, Any]) -> None:
    """Print `payload` as one line of compact ASCII JSON on `sys.stdout`, at once.

    A newline comes first, so that the line stands alone even after text that does not end with one. After
    text that does, there is a blank line. In a pipe, a line of more than 4,096 bytes can mix with what other
    threads print.

    Args:
        payload: An EMF event, as `build_emf_payload` returns it. It is not changed. Anything that JSON
            cannot represent becomes a string.

    Raises:
        OSError, ValueError, AttributeError: Stdout is broken, full, closed or `None`. The hook logs it, with
            the event.

    Example:
        >>> from strands_token_telemetry import default_emitter
        >>> default_emitter({"inputTokens": 12})
        <BLANKLINE>
        {"inputTokens":12}
    """
    text = f"\n{encode(payload)}\n"
    with _lock:
        _write(text)


def encode(payload: dict[str, Any]) -> str:
    """Return `payload` as compact ASCII JSON."""
    try:
        return _encode(payload)
    except Exception:  # not plain JSON data, because an emitter has changed the event or made its own
        return _encode(to_json_data(payload))


def _write(text: str) -> None:
    """Write a text to stdout, all of it and at once."""
    stdout: Any = sys.stdout
    buffer = stdout.buffer if type(stdout) is io.TextIOWrapper else None
    file = getattr(buffer, "raw", buffer)  # with `python -u` there is no buffer around the file
    if not isinstance(file, io.FileIO):  # stdout was replaced, by a notebook or a test for example
        stdout.write(text)
        if hasattr(stdout, "flush"):
            stdout.flush()
        return
    # Past the buffers, which keep what a broken pipe refuses, and lose what a full one does not take.
    stdout.flush()
    data = text.encode()
    while data:
        written = file.write(data)
        if written is None:  # a non-blocking pipe that is full
            raise BlockingIOError("stdout takes no more")
        data = data[written:]
