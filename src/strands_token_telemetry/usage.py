"""What an agent has spent since its event before. The state of the counting lives in what it describes."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import Any

from strands_token_telemetry.emf import metric_value

# What has been reported of a metrics object is kept in the object itself, so it is copied, pickled
# and forgotten with it. What was measured for an event is kept in the event, for all hooks of an agent.
_KEY = "_strands_token_telemetry"

# Reentrant, for a signal handler or the garbage collector may end another call while this one counts.
_lock = threading.RLock()
if hasattr(os, "register_at_fork"):  # no other thread would release it in a forked child
    os.register_at_fork(after_in_child=_lock._at_fork_reinit)  # type: ignore[attr-defined]  # noqa: SLF001 (as in logging)


def spent(metrics: object, event: object) -> dict[str, int | float]:
    """Return what was added to each counter of `metrics` since the event before.

    Strands adds to `EventLoopMetrics.accumulated_usage` for the whole life of an agent and never resets
    it, so what an invocation spent is the difference to what was reported before. If a counter went
    down, as after a restart in Prometheus, or `accumulated_usage` is another object, all counters have
    started at zero again. A counter that is no number of 0 or more this time is left out, and goes on
    from its last good value.

    Args:
        metrics: Has `accumulated_usage`, a mapping from names to numbers; anything else gives `{}`.
        event: The event to measure for. A second call for the same event and counters gives the same.
    """
    with _lock:
        accumulated = get(metrics, "accumulated_usage")
        if not isinstance(accumulated, (dict, Mapping)):  # dict first: asking an ABC takes longer
            return {}
        measured: list[tuple[Any, dict[str, int | float]]] = attributes(event).setdefault(_KEY, [])
        for measured_of, usage in measured:
            if measured_of is accumulated:
                return usage
        state = attributes(metrics)
        while True:
            before = state.setdefault(_KEY, (accumulated, {}))
            reported = before[1] if before[0] is accumulated else {}
            counters, usage, reset = reported.copy(), {}, False
            for name, value in dict(accumulated).items():  # a copy: another thread may be adding a counter
                number = metric_value(name, value)
                if number is not None and number >= 0:
                    counters[name] = number
                    usage[name] = added = number - reported.get(name, 0)
                    reset = reset or added < 0
            if reset:
                counters = usage = {name: counters[name] for name in usage}
            if state[_KEY] is before:  # else what ended meanwhile, in this thread, has reported some of it
                state[_KEY] = (accumulated, counters)
                break
        measured.append((accumulated, usage))
        return usage


def get(owner: object, name: str) -> Any:
    """Return an attribute, or None where there is none or its property raises."""
    try:
        return getattr(owner, name)
    except Exception:
        return None


def attributes(owner: object) -> dict[str, Any]:
    """Return the attributes of an object, to keep something among them; of one without any, a new dict."""
    return getattr(owner, "__dict__", {})
