"""Code written against the existing package of this name works unchanged, its unit tests too."""

from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest

import strands_token_telemetry
from strands_token_telemetry.emf import build_emf_payload
from strands_token_telemetry.hook import TokenUsageHook, default_emitter

USAGE = {"inputTokens": 100, "outputTokens": 50, "totalTokens": 150}


def mock_event(usage):
    event = MagicMock()
    event.result.metrics.accumulated_usage = usage
    return event


def namespace_event(usage, **agent):
    result = SimpleNamespace(metrics=SimpleNamespace(accumulated_usage=usage))
    return SimpleNamespace(result=result, **agent)


def test_the_import_paths():
    assert strands_token_telemetry.TokenUsageHook is TokenUsageHook
    assert strands_token_telemetry.default_emitter is default_emitter
    assert strands_token_telemetry.build_emf_payload is build_emf_payload
    assert strands_token_telemetry.__version__ == "0.1.0"


@pytest.mark.parametrize(
    "make_event",
    [
        mock_event,
        namespace_event,
        lambda usage: namespace_event(usage, agent=None),
        lambda usage: namespace_event(usage, agent=SimpleNamespace(name="x")),
        lambda usage: namespace_event(usage, agent=MagicMock()),
        lambda usage: namespace_event(
            usage, agent=SimpleNamespace(event_loop_metrics=SimpleNamespace(accumulated_usage=usage))
        ),
    ],
    ids=["mock", "no agent", "None", "namespace", "mock agent", "agent with metrics"],
)
def test_an_event_made_by_hand_gives_its_usage_as_it_stands_each_time(events, make_event):
    hook = TokenUsageHook(emitter=events)
    event = make_event(USAGE)
    hook._on_after_invocation(event)
    hook._on_after_invocation(event)
    hook._on_after_invocation(make_event({"inputTokens": 7}))
    assert [event["inputTokens"] for event in events] == [100, 100, 7]


class Slotted:
    __slots__ = ("accumulated_usage",)


def test_metrics_that_cannot_be_remembered_count_as_they_stand(events):
    metrics = Slotted()
    metrics.accumulated_usage = USAGE
    agent = SimpleNamespace(event_loop_metrics=metrics)
    hook = TokenUsageHook(emitter=events)
    for _ in range(2):
        hook._on_after_invocation(SimpleNamespace(agent=agent, result=SimpleNamespace(metrics=metrics)))
    assert [event["inputTokens"] for event in events] == [100, 100]
    assert hook._memory._reported == {}


def test_an_agent_without_a_result_made_by_hand_gives_its_usage(events):
    metrics = SimpleNamespace(accumulated_usage=USAGE)
    event = SimpleNamespace(agent=SimpleNamespace(event_loop_metrics=metrics))
    TokenUsageHook(emitter=events)._on_after_invocation(event)
    assert [event["inputTokens"] for event in events] == [100]


def broken_metrics():
    class Metrics:
        @property
        def accumulated_usage(self):
            raise NotImplementedError

    return SimpleNamespace(result=SimpleNamespace(metrics=Metrics()), agent=None)


@pytest.mark.parametrize(
    "event",
    [
        None,
        object(),
        MagicMock(result=None),
        MagicMock(),
        SimpleNamespace(result=None),
        SimpleNamespace(result=SimpleNamespace()),
        namespace_event(None),
        namespace_event({}),
        namespace_event("text"),
        namespace_event({"inputTokens": None}),
        namespace_event({"inputTokens": "12"}),
        broken_metrics(),
    ],
)
def test_an_event_without_a_usable_result_or_usage_is_ignored_quietly(events, caplog, event):
    TokenUsageHook(emitter=events)._on_after_invocation(event)
    assert events == []
    assert caplog.records == []


def test_a_counter_that_strands_may_add_is_a_metric_too(events):
    TokenUsageHook(emitter=events)._on_after_invocation(
        namespace_event({"inputTokens": 3, "reasoningTokens": 2, "audioSeconds": 0.5})
    )
    assert events.total() == {"inputTokens": 3, "reasoningTokens": 2, "audioSeconds": 0.5}


def test_what_is_no_number_in_the_usage_is_ignored(events):
    TokenUsageHook(emitter=events)._on_after_invocation(
        namespace_event({"inputTokens": 3, "model": "x", "flag": True, "ratio": float("nan"), 7: 7})
    )
    assert events.total() == {"inputTokens": 3}


def test_the_resolver_gets_the_event_and_wins_over_static_values(events):
    resolver = MagicMock(return_value={"Model": "resolved", "Region": "us-east-1"})
    event = mock_event(USAGE)
    hook = TokenUsageHook(dimension_values={"Model": "static"}, dimension_resolver=resolver, emitter=events)
    hook._on_after_invocation(event)
    resolver.assert_called_once_with(event)
    assert (events[0]["Model"], events[0]["Region"]) == ("resolved", "us-east-1")


def test_an_emitter_that_raises_is_logged_and_swallowed(caplog):
    TokenUsageHook(emitter=MagicMock(side_effect=RuntimeError("boom")))._on_after_invocation(
        mock_event(USAGE)
    )
    assert [record.levelname for record in caplog.records if record.exc_info] == ["ERROR"]
