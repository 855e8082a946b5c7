"""What an agent has spent since its previous event."""

from __future__ import annotations

import os
import threading
from typing import Any

from strands_token_telemetry.checks import metric_value

# Metrics remember what was reported of them in an attribute of this name, so that it is copied, pickled and
# forgotten with them.
_REPORTED = "_strands_token_telemetry_reported"

# An event remembers what was measured for it, so that all hooks of an agent report the same.
_MEASURED = "_strands_token_telemetry_measured"

_lock = threading.RLock()

if hasattr(os, "register_at_fork"):  # a forked child has no thread that could release the old lock
    os.register_at_fork(after_in_child=lambda: globals().update(_lock=threading.RLock()))


def take_unreported(metrics: object, event: object) -> dict[str, int | float]:
    """Return what was added to each counter since the agent's previous event, and note it as reported.

    Strands adds to `EventLoopMetrics.accumulated_usage` for the whole life of an agent, so what was spent
    is the difference from what was last reported. Another `accumulated_usage` object starts at zero.
    A counter that is not a finite number is left out this time; the next difference includes it.

    A second call for an event, by another hook, returns the same. Metrics without a dict of counters give
    `{}`.

    Raises:
        RuntimeError: Nothing can be remembered, or the counters cannot be read. The message has them.
    """
    with _lock:
        accumulated = getattr(metrics, "accumulated_usage", None)
        if not isinstance(accumulated, dict) or not accumulated:
            return {}
        try:
            return _measure(metrics, event, accumulated)
        except Exception as error:
            raise RuntimeError(f"cannot measure what was spent; the counters are {accumulated}") from error


def _measure(metrics: object, event: object, accumulated: dict[str, Any]) -> dict[str, int | float]:
    """Return the differences from what was reported, and remember both."""
    usage: dict[str, int | float]
    of_metrics, of_event = vars(metrics), vars(event)
    measured_of, usage = of_event.get(_MEASURED, (None, {}))
    if measured_of is accumulated:
        return usage
    reported_of, reported = of_metrics.get(_REPORTED, (None, {}))
    # A copy, so that nothing counts as reported if one of the counters cannot be read.
    reported = reported.copy() if reported_of is accumulated else {}
    usage = {}
    for name, value in accumulated.copy().items():  # a copy, because another thread may be adding a counter
        number = value if type(value) is int else metric_value(value)  # saves 1 µs an event
        if number is not None:
            usage[name] = number - reported.get(name, 0)
            reported[name] = number
    of_metrics[_REPORTED] = accumulated, reported
    of_event[_MEASURED] = accumulated, usage
    return usage
