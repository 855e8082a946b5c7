"""An event as one JSON line, and the emitter that prints it."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import sys
import threading
from typing import Any

from strands_token_telemetry.emf import plain

# Without a check for circular references, which takes a fifth of the time: an event has none.
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False, check_circular=False).encode

# Whether text without a newline may stand on stdout: a Strands agent streams there, or a write has
# failed. It is never taken back, so it holds for other threads too.
_text_may_stand_open = False

# One line at a time. An RLock, because default_emitter asks whether this thread holds it.
_lock = threading.RLock()


def _release_after_fork() -> None:
    with contextlib.suppress(RuntimeError):  # not ours: the wait ended without it
        _lock.release()


if hasattr(os, "register_at_fork"):
    # A fork waits for the thread that is writing, for a child would find the lock of stdout's buffer
    # locked for ever. It waits for a second at most, since the reader of stdout may be stuck.
    os.register_at_fork(
        before=functools.partial(_lock.acquire, timeout=1),
        after_in_parent=_release_after_fork,
        after_in_child=_lock._at_fork_reinit,  # type: ignore[attr-defined]  # noqa: SLF001 (as in logging)
    )


def default_emitter(payload: dict[str, Any]) -> None:
    """Print `payload` as one line of compact ASCII JSON on `sys.stdout`, at once.

    The line stands alone, from whatever thread and after whatever text agents have streamed to stdout.

    Args:
        payload: An EMF event, as `build_emf_payload` returns it. It is not changed. What JSON does not
            know goes out as text.

    Raises:
        OSError, ValueError: Stdout is broken, closed or full. The hook logs it, with the event.
        RuntimeError: A signal handler prints an event while a line is being written.

    Example:
        >>> from strands_token_telemetry import default_emitter
        >>> default_emitter({"inputTokens": 12})
        {"inputTokens":12}
    """
    line = encode(payload)
    if _lock._is_owned():  # type: ignore[attr-defined]  # noqa: SLF001 (as in threading)
        raise RuntimeError("a signal handler has interrupted the line that is being written")
    with _lock:
        text = f"\n{line}\n" if _text_may_stand_open else f"{line}\n"
        try:
            _write(text)
        except BaseException:
            expect_text()
            raise


def encode(payload: dict[str, Any]) -> str:
    """Return `payload` as compact ASCII JSON."""
    try:
        return _encode(payload)
    except Exception:  # no event of the hook, or one that an emitter has changed
        return _encode(plain(payload))


def expect_text() -> None:
    """Begin all further lines with a newline, for text may stand on stdout without one."""
    global _text_may_stand_open  # noqa: PLW0603 (of the process, as stdout is)
    _text_may_stand_open = True


def _write(text: str) -> None:
    stdout = sys.stdout
    if type(stdout) is not io.TextIOWrapper:  # replaced, by a notebook or a test for example
        stdout.write(text)
        stdout.flush()
        return
    # Past the buffer, where a line would stand that a pipe does not take now, or that a forked child
    # prints once more. Without a buffer, Python takes no notice when a pipe takes only a part.
    stdout.flush()
    raw: Any = getattr(stdout.buffer, "raw", stdout.buffer)
    data = text.encode()
    while (written := raw.write(data)) != len(data):
        if written is None:  # a pipe that does not wait for its reader
            raise BlockingIOError("stdout takes no more")
        data = data[written:]
