"""What an agent has spent since it was last asked: the only state of the package."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Mapping
from typing import Any

from strands_token_telemetry.emf import TOKEN_METRICS, is_metric

# Reentrant: the garbage collector may finish an abandoned stream, its hooks included, at any
# allocation in the locked block.
_lock = threading.RLock()
_asked: set[tuple[int, int]] = set()  # the ids of memory and metrics that are in the locked block


def _forget_other_threads() -> None:
    _lock._at_fork_reinit()  # type: ignore[attr-defined]  # noqa: SLF001 (as in logging)
    _asked.clear()


if hasattr(os, "register_at_fork"):  # a child forked meanwhile would wait for them for ever
    os.register_at_fork(after_in_child=_forget_other_threads)


class UsageMemory:
    """Remembers what has been reported of each metrics object, and gives the rest.

    Strands adds to `EventLoopMetrics.accumulated_usage` for the whole life of an agent and never
    resets it, so what an invocation spent is the difference to what was reported before. What is
    remembered belongs to the metrics object, not to the agent: a replaced one starts at zero, and
    one that two agents share is counted once. Metrics are held weakly, agents not at all.

    Safe to use from many threads. Time and memory do not grow with the number of invocations.
    """

    def __init__(self) -> None:
        # By id(), for metrics are a dataclass and can't be hashed: the counters object, and what was
        # reported of it. An entry goes when the metrics do, before the id is given to another object.
        self._reported: dict[int, tuple[Mapping[str, int], dict[str, int]]] = {}
        self._references: dict[int, weakref.ref[Any]] = {}

    def spent(self, metrics: Any, *, remember: bool = True) -> dict[str, int]:
        """Return what was added to each counter of `metrics` since the last call.

        Args:
            metrics: Has `accumulated_usage`, a mapping from counter names to numbers. Anything
                else gives an empty dict.
            remember: False where no agent accumulates these counters, as in an event made by hand:
                they are given as they stand, each time, unless they are remembered already.

        Returns:
            Every counter of `metrics`, with 0 where nothing was added.
        """
        asked = id(self), id(metrics)
        with _lock:
            if asked in _asked:  # re-entered: the call that is under way reports these tokens
                return {}
            _asked.add(asked)
            try:
                return self._spent(metrics, id(metrics), remember)
            finally:
                _asked.discard(asked)

    def _spent(self, metrics: Any, key: int, remember: bool) -> dict[str, int]:
        try:
            usage = metrics.accumulated_usage
        except Exception:  # None, or a test double
            return {}
        if not isinstance(usage, (dict, Mapping)):  # dict first: asking an ABC takes longer
            return {}
        reported_of, reported = self._reported.get(key, (None, {}))
        if reported_of is not usage:  # seen for the first time, or replaced: counts from zero
            reported = {}
        counters, new, reset = {}, {}, False
        # dict() first: another thread may be adding a counter while this one iterates.
        for name, value in dict(usage).items():
            if (type(value) is int and name in TOKEN_METRICS) or is_metric(name, value):
                counters[name] = value
                new[name] = difference = value - reported.get(name, 0)
                if difference < 0:
                    reset = True
        # A counter that went down or away is a reset of them all, as in Prometheus.
        if reset or not reported.keys() <= counters.keys():
            new = counters.copy()
        if reported_of is not None or (remember and self._watch(metrics, key)):
            self._reported[key] = (usage, counters)
        return new

    def _watch(self, metrics: Any, key: int) -> bool:
        """See to it that what is remembered of `metrics` goes with them; say whether that can be done."""

        def forget(_: weakref.ref[Any]) -> None:
            del self._reported[key], self._references[key]

        try:
            self._references[key] = weakref.ref(metrics, forget)
        except TypeError:  # a test double that can't be weakly referenced
            return False
        return True
