"""What an agent has spent since it was last asked: the only state of the package."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping
from typing import Any

from strands_token_telemetry.emf import is_metric


class UsageMemory:
    """Remembers what has been reported of each metrics object, and gives the rest.

    Strands adds to `EventLoopMetrics.accumulated_usage` for the whole life of an agent and never
    resets it, so what an invocation spent is the difference to what was reported before. What is
    remembered belongs to the metrics object, not to the agent: a replaced one starts at zero, and
    one that two agents share is counted once. Metrics are held weakly, agents not at all.

    Safe to use from many threads. Time and memory do not grow with the number of invocations.
    """

    def __init__(self) -> None:
        # Keyed by id(): metrics are a dataclass and can't be hashed. An entry goes when its object
        # does, before the id can be given to another one.
        self._reported: dict[int, tuple[weakref.ref[Any], Any, dict[str, int]]] = {}
        # Reentrant: the garbage collector may finish an abandoned stream, its hooks included, at
        # any allocation in the locked block.
        self._lock = threading.RLock()

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
        key = id(metrics)
        with self._lock:
            try:
                usage = metrics.accumulated_usage
            except Exception:  # None, or a test double
                return {}
            if not isinstance(usage, Mapping):
                return {}
            # dict() first: another thread may be adding a counter while this one iterates.
            now = {name: value for name, value in dict(usage).items() if is_metric(name, value)}
            entry = self._reported.get(key)
            if entry is None:
                if not remember:
                    return now
                try:
                    ref = weakref.ref(metrics, lambda _: self._reported.pop(key, None))
                except TypeError:  # a test double that can't be weakly referenced
                    return now
                before: dict[str, int] = {}
            else:
                ref, reported_of, before = entry
                # Another mapping, or a counter that went down or away, is a reset: all counters
                # start at zero again, as in Prometheus.
                if reported_of is not usage or any(
                    now.get(name, 0) < value for name, value in before.items()
                ):
                    before = {}
            self._reported[key] = (ref, usage, now)
            return {name: value - before.get(name, 0) for name, value in now.items()}
