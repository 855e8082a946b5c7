from __future__ import annotations

import os
from collections import Counter

import pytest
from hypothesis import HealthCheck, settings

from emf_checker import extract, parse
from strands_token_telemetry.emitters import encode

# Real agents are slow by hypothesis' standards. HYPOTHESIS_PROFILE=thorough looks longer.
for profile, examples, steps in [("quick", 25, 15), ("thorough", 150, 40)]:
    settings.register_profile(
        profile,
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


class Events(list):
    """An emitter that keeps each event, once the EMF checker has passed its line."""

    def __call__(self, payload):
        line = encode(payload)
        extract(line)
        self.append(parse(line))

    def total(self, **members):
        """Return the sum of the metrics over the events that have these members."""
        total = Counter()
        for event in self:
            if members.items() <= event.items():
                names = [metric["Name"] for metric in event["_aws"]["CloudWatchMetrics"][0]["Metrics"]]
                total.update({name: event[name] for name in names})
        return +total


@pytest.fixture
def events():
    return Events()


@pytest.fixture
def stdout_events(capfd):
    """Return a function that gives the events on stdout since its last call, each line checked."""

    def read():
        lines = [line for line in capfd.readouterr().out.splitlines() if line.startswith('{"_aws"')]
        for line in lines:
            extract(line)
        return [parse(line) for line in lines]

    return read
