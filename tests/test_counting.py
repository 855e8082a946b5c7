"""The events for an agent always sum to what its model reported: each token once, none twice."""

import decimal
import gc
import pickle
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
from strands import Agent, tool
from strands.hooks import AfterInvocationEvent
from strands.telemetry.metrics import EventLoopMetrics

from helpers import Events, call, fails, make_agent, reentrant, says, since, uses
from strands_token_telemetry import TokenUsageHook

results_have_metrics = since("1.20", "AfterInvocationEvent.result")
plugins_exist = since("1.28", "plugins")
first_in_line = since("1.43", "the order of callbacks")


@pytest.fixture
def hook(events):
    return TokenUsageHook(emitter=events)


def agent_of(usage):
    """Return an agent made by hand, with these counters and nothing else."""
    return SimpleNamespace(event_loop_metrics=SimpleNamespace(accumulated_usage=usage))


def result_of(usage):
    return SimpleNamespace(metrics=SimpleNamespace(accumulated_usage=usage))


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        pytest.param([says(tokens=(10, 5)), says(tokens=(30, 7))], [10, 30], id="a reused agent"),
        pytest.param([uses("look_up", tokens=(20, 3)), says(tokens=(40, 5))], [60], id="a call with a tool"),
        pytest.param([fails()], [], id="a call that fails and spent nothing"),
        pytest.param([uses("look_up"), fails(), says(tokens=(7, 1))], [20, 7], id="a call that fails"),
        pytest.param([says(tokens=(0, 0))], [0], id="a call that spends nothing", marks=results_have_metrics),
        pytest.param(
            [says(tokens=(n, 50)) for n in (9_000, -1_500, 700)],
            [9_000, -1_500, 700],
            id="a gateway that takes a cache discount off the input",
        ),
        pytest.param(
            [says(), says(cacheReadInputTokens=100, cacheWriteInputTokens=40), says(cacheReadInputTokens=7)],
            [10, 10, 10],
            id="cached tokens that appear later",
            marks=since("1.5", "the counting of cached tokens"),
        ),
    ],
)
def test_each_call_emits_what_it_spent(events, hook, turns, expected):
    agent = make_agent(*turns, hooks=[hook])
    for turn in turns:
        if not turn.tools:  # after a tool, the same call goes on
            call(agent)
    assert events.inputs == expected
    assert events.total() == agent.model.reported


def test_counters_that_are_replaced_and_grow_to_the_same_values_are_counted(events, hook):
    agent = make_agent(hooks=[hook])
    for _ in range(2):
        agent.event_loop_metrics.accumulated_usage = EventLoopMetrics().accumulated_usage
        agent("hello")
    assert events.inputs == [10, 10]


@pytest.mark.skipif(not hasattr(Agent, "cancel"), reason="Agent.cancel came with a later Strands")
def test_agent_cancel_emits_what_was_spent(events, hook):
    @tool
    def stop() -> str:
        """Stop the agent."""
        agent.cancel()
        return "stopped"

    agent = make_agent(uses("stop", tokens=(20, 3)), says(tokens=(40, 5)), tools=[stop], hooks=[hook])
    assert agent("stop").stop_reason == "cancelled"
    agent("go on")
    assert events.inputs == [20, 40]


def test_calls_at_the_same_time_are_each_counted_once(events):
    """Of four agents with one hook, each called in two threads."""

    def call_twice(agent):
        all_are_here.wait()
        agent("one")
        agent("two")

    hook = TokenUsageHook(dimensions=[["AgentName"]], emitter=events)
    agents = [make_agent(says(tokens=(n, 1)), name=f"{n}", hooks=[hook], **reentrant()) for n in range(1, 5)]
    all_are_here = threading.Barrier(8)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(call_twice, agents * 2))
    for agent in agents:
        assert events.total(AgentName=agent.name) == agent.event_loop_metrics.accumulated_usage


def busy(action):
    """Return a counter of 10. Whoever reads it first does something else, as another thread may."""

    class Busy(float):
        def __int__(self):
            action()
            return 10

    return Busy(10)


def test_two_calls_that_end_at_the_same_moment_are_counted_once(events, hook):
    def wait():
        with suppress(threading.BrokenBarrierError):
            both_are_reading.wait(0.2)  # one thread alone gives up

    both_are_reading = threading.Barrier(2)
    agent = agent_of({"inputTokens": busy(wait)})
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(hook._on_after_invocation, [SimpleNamespace(agent=agent, result=1) for _ in range(2)]))
    assert sorted(events.inputs) == [0, 10]


def test_a_counter_that_another_thread_adds_meanwhile_is_counted_the_next_time(events, hook):
    usage = {}
    usage["inputTokens"] = busy(lambda: usage.update(outputTokens=5))
    agent = agent_of(usage)
    for _ in range(2):
        hook._on_after_invocation(SimpleNamespace(agent=agent))
    assert events.inputs == [10, 0]
    assert events.total() == {"inputTokens": 10, "outputTokens": 5}


# In `hooks=` and in `plugins=`.

either_list = pytest.mark.parametrize("listed_in", ["hooks", pytest.param("plugins", marks=plugins_exist)])


@first_in_line
@either_list
def test_another_callback_that_raises_costs_no_event(events, hook, listed_in):
    """Strands does not call the callbacks that come after one that raises."""

    def fail(event: AfterInvocationEvent) -> None:
        raise OSError("out of order")

    agent = make_agent(**{listed_in: [hook]})
    agent.hooks.add_callback(AfterInvocationEvent, fail)
    agent.hooks.add_callback(AfterInvocationEvent, fail, order=-sys.float_info.max)
    with pytest.raises(OSError, match="out of order"):
        agent("hello")
    assert events.inputs == [10]


@either_list
def test_two_hooks_of_an_agent_each_count(events, hook, listed_in):
    others = Events()
    agent = make_agent(says(), fails(), **{listed_in: [hook, TokenUsageHook(emitter=others)]})
    for _ in range(2):
        call(agent)
    assert (events.inputs, others.inputs) == ([10], [10])


@either_list
def test_a_hook_that_is_listed_twice_counts_once(events, hook, listed_in):
    agent = make_agent(hooks=[hook], **({"plugins": [hook]} if listed_in == "plugins" else {}))
    agent.hooks.add_hook(hook)
    agent("hello")
    assert events.inputs == [10]


@pytest.mark.parametrize(("hooks_before", "expected"), [(0, [20]), (1, [10])])
def test_a_hook_that_is_added_later_counts_from_what_was_reported(events, hook, hooks_before, expected):
    agent = make_agent(hooks=[TokenUsageHook(emitter=Events())] * hooks_before)
    agent("one")
    agent.hooks.add_hook(hook)
    agent("two")
    assert events.inputs == expected


# Counters of any kind.


def numpy_int64(number):
    return pytest.importorskip("numpy", reason="no numpy").int64(number)


@pytest.mark.parametrize("kind", [float, decimal.Decimal, numpy_int64])
def test_a_counter_of_another_number_type_is_a_number(events, hook, kind):
    agent = make_agent(hooks=[hook])
    usage = agent.event_loop_metrics.accumulated_usage
    usage.update({name: kind(count) for name, count in usage.items()})
    agent("one")
    agent("two")
    assert events.inputs == [10, 10]
    assert {type(event["inputTokens"]) for event in events} == {int}


@pytest.mark.parametrize("bad", [float("inf"), float("nan"), "12", None, True, 1j], ids=str)
def test_a_counter_that_is_not_a_number_for_once_is_counted_the_next_time(events, hook, bad):
    agent = make_agent()
    usage = agent.event_loop_metrics.accumulated_usage
    for value in (10, bad, 30, 40):
        usage["inputTokens"] = value
        usage["outputTokens"] += 1
        hook._on_after_invocation(AfterInvocationEvent(agent=agent))
    assert [event.get("inputTokens") for event in events] == [10, None, 20, 10]
    assert [event["outputTokens"] for event in events] == [1, 1, 1, 1]


def test_each_counter_is_a_metric_and_nothing_else_is(events, hook):
    """Strands may add counters to those of today."""
    counters = {"inputTokens": 3, "reasoningTokens": 2, "seconds": 0.5}
    others = {"model": "x", "flag": True, "ratio": float("nan")}
    agent = make_agent()
    agent.event_loop_metrics.accumulated_usage = {**counters, **others}
    hook._on_after_invocation(AfterInvocationEvent(agent=agent))
    assert events.total() == counters


# Robustness: events made by hand, objects that can keep nothing, pickles, and the garbage collector.


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(MagicMock(**{"result.metrics.accumulated_usage": {"inputTokens": 100}}), id="a mock"),
        pytest.param(SimpleNamespace(agent=agent_of({"inputTokens": 100})), id="an agent alone"),
        pytest.param(SimpleNamespace(result=result_of({"inputTokens": 100})), id="a result alone"),
        pytest.param(
            SimpleNamespace(agent=agent_of({}), result=result_of({"inputTokens": 100})),
            id="an agent without counters",
        ),
        pytest.param(
            SimpleNamespace(agent=agent_of({"inputTokens": 100}), result=result_of({"inputTokens": 7})),
            id="the result of another agent",
        ),
    ],
)
def test_an_event_made_by_hand_gives_its_usage_each_time(events, hook, event):
    """As a user's own unit tests make it."""
    hook._on_after_invocation(event)
    hook._on_after_invocation(event)
    assert events.inputs == [100, 100]


def test_an_event_made_by_hand_and_used_again_with_other_counters_starts_anew(events, hook):
    event = SimpleNamespace(result=result_of({"inputTokens": 100}))
    hook._on_after_invocation(event)
    event.result.metrics.accumulated_usage = {"inputTokens": 7}
    hook._on_after_invocation(event)
    assert events.inputs == [100, 7]


@pytest.mark.parametrize(
    "event",
    [
        None,
        MagicMock(),
        SimpleNamespace(result=None),
        SimpleNamespace(result=result_of("text")),
        SimpleNamespace(result=result_of({"inputTokens": None})),
    ],
    ids=["None", "a mock", "no result", "text", "no number"],
)
def test_an_event_without_a_usable_result_or_usage_is_ignored_quietly(events, hook, caplog, event):
    hook._on_after_invocation(event)
    assert events == []
    assert caplog.records == []


class Slotted:
    __slots__ = ("accumulated_usage",)


def test_counters_that_cannot_be_remembered_are_in_the_log_each_time(events, hook, caplog):
    """Without memory, each event would silently carry the running total."""
    metrics = Slotted()
    metrics.accumulated_usage = {"inputTokens": 10}
    for _ in range(2):
        hook._on_after_invocation(SimpleNamespace(agent=SimpleNamespace(event_loop_metrics=metrics)))
    assert events == []
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
    assert all("{'inputTokens': 10}" in record.getMessage() for record in caplog.records)


def test_metrics_that_cannot_be_read_are_in_the_log(events, hook, caplog):
    class Agent:
        @property
        def event_loop_metrics(self):
            raise NotImplementedError("there are none")

    hook._on_after_invocation(SimpleNamespace(agent=Agent()))
    assert events == []
    (record,) = caplog.records
    assert (record.levelname, str(record.exc_info[1])) == ("ERROR", "there are none")


def test_a_hook_can_be_pickled():
    hook = TokenUsageHook(namespace="Team/Tokens", extra_properties={"tags": ["a"]})
    assert vars(pickle.loads(pickle.dumps(hook))) == vars(hook)


def test_the_hook_keeps_no_agent_alive(hook):
    agent = make_agent(hooks=[hook])
    agent("hello")
    gone = weakref.ref(agent)
    del agent
    gc.collect()
    assert gone() is None
