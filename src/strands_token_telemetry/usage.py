"""What an agent has spent since its previous event."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import Any

from strands_token_telemetry.checks import metric_value

# Under this name a metrics object remembers the counters that were reported, so that they are copied,
# pickled and forgotten with it. An event remembers what was measured for it, for all hooks of an agent.
_MEMORY = "_strands_token_telemetry"

_lock = threading.RLock()


def _renew_lock() -> None:
    """Replace the lock in a forked child, where no thread is left to release the old one."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def spent(metrics: object, event: object) -> dict[str, int | float]:
    """Return what was added to each counter of the metrics since the agent's previous event.

    Strands adds to `EventLoopMetrics.accumulated_usage` for the whole life of an agent, so what was spent
    is the difference from what was last reported. Another `accumulated_usage` object starts at zero.
    A counter that is not a finite number is left out this time; the next difference includes it.

    Args:
        metrics: Has a mapping `accumulated_usage` from names to numbers; anything else gives `{}`.
        event: The event to measure for. A second call for it, by another hook, returns the same.

    Raises:
        RuntimeError: Nothing can be remembered, or the counters cannot be read. The message has them.
    """
    with _lock:
        accumulated = get(metrics, "accumulated_usage")
        if not accumulated or not isinstance(accumulated, (dict, Mapping)):
            return {}
        try:
            return _measure(metrics, event, accumulated)
        except Exception as error:
            raise RuntimeError(f"cannot measure what was spent; the counters are {accumulated}") from error


def _measure(metrics: object, event: object, accumulated: Mapping[str, Any]) -> dict[str, int | float]:
    """Return the differences from what was reported, and remember both."""
    measured = _recall(event, accumulated)
    if measured is not None:
        return measured
    reported = _recall(metrics, accumulated) or {}
    counters, usage = reported.copy(), {}
    for name, value in dict(accumulated).items():  # a copy, because another thread may be adding a counter
        number = value if type(value) is int else metric_value(value)
        if number is not None and isinstance(name, str) and name != "_aws":
            counters[name] = number
            usage[name] = number - reported.get(name, 0)
    vars(metrics)[_MEMORY] = accumulated, counters
    vars(event)[_MEMORY] = accumulated, usage
    return usage


def _recall(owner: object, accumulated: object) -> dict[str, int | float] | None:
    """Return what an object remembers about these counters, if anything."""
    remembered_of, numbers = vars(owner).get(_MEMORY, (None, None))
    return numbers if remembered_of is accumulated else None


def get(owner: object, name: str) -> Any:
    """Return an attribute, or None if it is missing or raises."""
    try:
        return getattr(owner, name)
    except Exception:
        return None
