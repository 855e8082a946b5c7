import json
import logging
import os

import pytest
from hypothesis import HealthCheck, settings

from helpers import Events
from strands_token_telemetry.log import warn_once

# Real agents are slow by Hypothesis' standards. The quick search is the same each time. The thorough one,
# HYPOTHESIS_PROFILE=thorough, is random and longer.
slow = [HealthCheck.too_slow, HealthCheck.data_too_large]
common = {"database": None, "deadline": None, "suppress_health_check": slow}
settings.register_profile("quick", max_examples=15, stateful_step_count=12, derandomize=True, **common)
settings.register_profile("thorough", max_examples=150, stateful_step_count=40, derandomize=False, **common)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


@pytest.fixture(autouse=True)
def a_process_that_has_logged_no_warning():
    warn_once.cache_clear()


@pytest.fixture
def events():
    return Events()


@pytest.fixture
def undelivered(monkeypatch):
    """Collect the events that the log holds because their emitter failed."""

    def keep(record):
        _, found, event = record.getMessage().partition("not delivered: ")
        if found:
            kept(json.loads(event))
        return True

    kept = Events()
    monkeypatch.setattr(logging.getLogger("strands_token_telemetry"), "filters", [keep])
    return kept
