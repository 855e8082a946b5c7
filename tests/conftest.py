from __future__ import annotations

import json
import logging
import math
import os
from collections import Counter

import pytest
from hypothesis import HealthCheck, settings

from emf_checker import extract, parse
from strands_token_telemetry import emitters, hook

# Real agents are slow by hypothesis' standards. The quick search is the same each time; the random one,
# HYPOTHESIS_PROFILE=thorough, looks longer.
for profile, examples, steps in [("quick", 25, 15), ("thorough", 150, 40)]:
    settings.register_profile(
        profile,
        max_examples=examples,
        stateful_step_count=steps,
        derandomize=profile == "quick",
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


@pytest.fixture(autouse=True)
def a_process_in_which_no_agent_has_emitted(monkeypatch):
    """Forget what the package remembers for the life of a process: text on stdout, and warnings said once."""
    monkeypatch.setattr(emitters, "_text_may_stand_open", False)
    hook._say_unknown.cache_clear()


class Events(list):
    """An emitter that keeps each event, after the EMF checker has passed its line.

    Any encoder can write an event, so it is written here by a plain one.
    """

    def __call__(self, payload):
        assert_plain(payload)
        line = json.dumps(payload, allow_nan=False)
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

    @property
    def inputs(self):
        return [event["inputTokens"] for event in self]


def assert_plain(value):
    """Fail unless a value is made of exactly the types that json.loads gives."""
    assert type(value) in (dict, list, str, int, float, bool, type(None)), type(value)
    if type(value) is float:
        assert math.isfinite(value)
    if type(value) in (dict, list):
        for item in value:
            assert_plain(item)
    if type(value) is dict:
        assert all(type(name) is str for name in value)
        assert_plain(list(value.values()))


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


@pytest.fixture
def undelivered():
    """Collect the events that the log holds because their emitter failed."""

    class Handler(logging.Handler):
        def emit(self, record):
            if "not delivered: " in record.getMessage():
                kept(json.loads(record.getMessage().partition("not delivered: ")[2]))

    kept, handler = Events(), Handler()
    logger = logging.getLogger("strands_token_telemetry")
    logger.addHandler(handler)
    yield kept
    logger.removeHandler(handler)
