"""The events for an agent always sum to what its model reported: each token once, none twice."""

import asyncio
import copy
import decimal
import gc
import itertools
import pickle
import threading
import weakref
from collections import Counter, UserDict
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
first_in_line = since("1.43", "the order of callbacks")


@pytest.fixture
def hook(events):
    return TokenUsageHook(emitter=events)


def recorded(*agents):
    """Return what the metrics of agents hold: the truth."""
    return sum((Counter(agent.event_loop_metrics.accumulated_usage) for agent in agents), Counter())


def reported(*agents):
    """Return what the models of agents have said they used; the metrics forget it where they are replaced."""
    return sum((agent.model.reported for agent in agents), Counter())


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        pytest.param([says(tokens=(10, 5)), says(tokens=(30, 7))], [10, 30], id="a reused agent"),
        pytest.param([uses("look_up", tokens=(20, 3)), says(tokens=(40, 5))], [60], id="a call with a tool"),
        pytest.param([fails()], [], id="a call that fails and spent nothing"),
        pytest.param([uses("look_up"), fails(), says(tokens=(7, 1))], [20, 7], id="a call that fails"),
        pytest.param([says(tokens=(0, 0))], [0], id="a call that spends nothing", marks=results_have_metrics),
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
        if not turn.tools:  # after these the same call goes on
            call(agent)
    assert events.inputs == expected
    assert events.total() == reported(agent)


def test_a_provider_that_reports_negative_numbers(events, hook):
    """A gateway may take a cache discount off the input."""
    agent = make_agent(*(says(tokens=(n, 50)) for n in (9_000, -1_500, 700)), hooks=[hook])
    for _ in range(3):
        agent("hello")
    assert events.inputs == [9_000, -1_500, 700]
    assert events.total() == agent.event_loop_metrics.accumulated_usage


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


def test_a_stream_that_the_garbage_collector_ends_emits_no_history(events, hook):
    async def abandon_the_second_stream():
        chat = SimpleNamespace(agent=make_agent(hooks=[hook]))
        chat.itself = chat
        await chat.agent.invoke_async("one")
        chat.stream = chat.agent.stream_async("two")
        await chat.stream.__anext__()
        del chat
        gc.collect()
        await asyncio.sleep(0.01)  # the loop ends the stream

    asyncio.run(abandon_the_second_stream())
    assert events.inputs == [10]


def in_threads(agents):
    def call_at_once(agent):
        barrier.wait()
        agent("hello")

    barrier = threading.Barrier(len(agents))
    with ThreadPoolExecutor(len(agents)) as pool:
        list(pool.map(call_at_once, agents))


def in_one_event_loop(agents):
    async def call_at_once():
        await asyncio.gather(*(agent.invoke_async("hello") for agent in agents))

    asyncio.run(call_at_once())


@pytest.mark.parametrize("call_at_once", [in_threads, in_one_event_loop])
@pytest.mark.parametrize("many", [True, False], ids=["many agents", "one agent"])
def test_calls_at_the_same_time_are_each_counted_once(events, hook, many, call_at_once):
    if many:
        agents = [make_agent(says(tokens=(n, 1)), hooks=[hook]) for n in range(1, 9)]
    else:
        agents = [make_agent(hooks=[hook], **reentrant())] * 8
    call_at_once(agents)
    call_at_once(agents)
    assert events.total() == recorded(*set(agents))
    assert not many or len(events) == 16


def test_two_calls_that_end_at_the_same_moment_are_counted_once(events, hook):
    class Counters(UserDict):
        def keys(self):
            with suppress(threading.BrokenBarrierError):
                both_are_reading.wait(0.2)  # one alone gives up
            return super().keys()

    both_are_reading = threading.Barrier(2)
    metrics = SimpleNamespace(accumulated_usage=Counters(inputTokens=10))
    ends = [SimpleNamespace(agent=SimpleNamespace(event_loop_metrics=metrics), result=1) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(hook._on_after_invocation, ends))
    assert sorted(events.inputs) == [0, 10]


# What a user may do to the metrics between two calls.


def new_metrics(agent):
    agent.event_loop_metrics = EventLoopMetrics()


def new_counters(agent):
    agent.event_loop_metrics.accumulated_usage = EventLoopMetrics().accumulated_usage


@pytest.mark.parametrize(
    ("reset", "tokens"),
    [
        pytest.param(new_metrics, (30, 90), id="new metrics, more spent than before"),
        pytest.param(new_counters, (30, 90), id="new counters, more spent than before"),
        pytest.param(new_counters, (3, 100), id="new counters, more of one spent than before"),
    ],
)
def test_metrics_that_are_replaced_start_at_zero(events, hook, reset, tokens):
    agent = make_agent(says(tokens=(10, 50)), says(tokens=tokens), hooks=[hook])
    agent("one")
    reset(agent)
    agent("two")
    agent("three")
    assert events.inputs == [10, tokens[0], tokens[0]]
    assert events.total() == reported(agent)


def pickled(value):
    return pickle.loads(pickle.dumps(value))


@pytest.mark.parametrize(
    "share", [lambda metrics: metrics, copy.deepcopy, pickled], ids=["shared", "a deep copy", "a pickle"]
)
def test_metrics_that_are_shared_or_copied_bring_along_what_was_reported(events, hook, share):
    agent, other = make_agent(hooks=[hook]), make_agent(hooks=[hook])
    agent("one")
    other.event_loop_metrics = share(agent.event_loop_metrics)
    other("two")
    agent("three")
    assert events.inputs == [10, 10, 10]
    assert recorded(other)["inputTokens"] >= 20


# What another hook, a plugin or a middleware may do at the end of a call.


def let_another_hook_replace_the_metrics(agent, make_metrics):

    def replace(event: AfterInvocationEvent) -> None:
        agent.event_loop_metrics = make_metrics()

    agent.hooks.add_callback(AfterInvocationEvent, replace)


@first_in_line
@pytest.mark.parametrize("in_turn", [False, True], ids=["by new ones", "by two in turn"])
@pytest.mark.parametrize("used", [False, True], ids=["from the start", "on a used agent"])
def test_metrics_that_another_hook_replaces_after_each_call(events, hook, in_turn, used):
    others = Events()
    agent = make_agent(hooks=[hook, TokenUsageHook(emitter=others)])
    if used:
        agent("before there is such a hook")
    two = itertools.cycle([EventLoopMetrics(), agent.event_loop_metrics])
    let_another_hook_replace_the_metrics(agent, two.__next__ if in_turn else EventLoopMetrics)
    for _ in range(4):
        agent("hello")
    assert events.total() == others.total() == reported(agent)


@first_in_line
def test_calls_at_once_whose_metrics_another_hook_replaces(events, hook):
    def fresh():
        metrics = EventLoopMetrics()
        if hasattr(EventLoopMetrics, "reset_usage_metrics"):
            metrics.reset_usage_metrics()  # the other calls go on with it
        return metrics

    agent = make_agent(hooks=[hook], **reentrant())
    let_another_hook_replace_the_metrics(agent, fresh)
    in_one_event_loop([agent] * 3)
    assert events.total() == reported(agent)


@first_in_line
def test_another_callback_that_raises_costs_no_event(events, hook):
    def fail(event: AfterInvocationEvent) -> None:
        raise OSError("out of order")

    agent = make_agent(hooks=[hook])
    agent.hooks.add_callback(AfterInvocationEvent, fail)
    agent.hooks.add_callback(AfterInvocationEvent, fail, order=-1_000_000)
    with pytest.raises(OSError, match="out of order"):
        agent("hello")
    assert events.inputs == [10]


def test_a_call_that_is_cut_while_a_plugin_waits_for_its_tasks(events, hook):
    pytest.importorskip("strands.background_tasks", reason="background tasks came with a later Strands")

    @tool
    async def slow() -> str:
        """Take a long time."""
        await asyncio.sleep(30)
        return "done"

    async def call_in_a_hurry():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(agent.invoke_async("go"), 0.5)

    turns = uses("slow", tokens=(100, 10)), says(tokens=(20, 2))
    agent = make_agent(*turns, tools=[slow], background_tasks={"always": ["slow"]}, hooks=[hook])
    asyncio.run(call_in_a_hurry())
    assert events.total() == recorded(agent)
    assert events.total()["totalTokens"] == 132


@pytest.mark.parametrize("metrics", [None, EventLoopMetrics], ids=["another agent's", "fresh ones"])
def test_a_middleware_that_returns_a_result_with_other_metrics(events, metrics):
    stage = pytest.importorskip("strands.middleware._agent_stream", reason="it came with a later Strands")
    from strands.types._events import EventLoopStopEvent

    async def answer_of_another(context, next_fn):
        async for event in next_fn(context):
            if isinstance(event, EventLoopStopEvent):
                result = await other.invoke_async("say it better")
                state = metrics() if metrics else result.metrics
                event = EventLoopStopEvent(result.stop_reason, result.message, state, {})
            yield event

    hook = TokenUsageHook(dimensions=[["AgentName"]], emitter=events)
    agent = make_agent(says(tokens=(100, 10)), name="agent", hooks=[hook])
    other = make_agent(says(tokens=(5, 5)), name="other", hooks=[hook])
    agent.add_middleware(stage.AgentStreamStage, answer_of_another)
    agent("hello")
    agent("hello")
    assert events.total(AgentName="agent") == recorded(agent)
    assert events.total(AgentName="other") == recorded(other)


@results_have_metrics
def test_a_result_of_another_agent_is_not_counted_where_nothing_was_spent(events, hook):
    hook._on_after_invocation(AfterInvocationEvent(agent=make_agent(), result=make_agent()("hello")))
    assert events.inputs == [0]


# Counters of any kind.


def of_numpy(kind):
    return lambda number: getattr(pytest.importorskip("numpy", reason="no numpy"), kind)(number)


@pytest.mark.parametrize("kind", [float, decimal.Decimal, of_numpy("int64"), of_numpy("float32")])
def test_a_counter_of_another_number_type_is_a_number(events, hook, kind):
    agent = make_agent(hooks=[hook])
    usage = agent.event_loop_metrics.accumulated_usage
    usage.update({name: kind(count) for name, count in usage.items()})
    agent("one")
    agent("two")
    assert events.inputs == [10, 10]
    assert {type(event["inputTokens"]) for event in events} == {int}


@pytest.mark.parametrize(
    "bad", [float("inf"), float("nan"), "12", None, True, 1j, decimal.Decimal("NaN")], ids=str
)
def test_a_counter_that_is_not_a_number_for_once_is_counted_the_next_time(events, hook, bad):
    agent = make_agent()
    for number in range(4):
        agent("hello")
        usage = agent.event_loop_metrics.accumulated_usage
        good = usage["inputTokens"]
        if number == 1:
            usage["inputTokens"] = bad
        hook._on_after_invocation(AfterInvocationEvent(agent=agent))
        usage["inputTokens"] = good
    assert [event.get("inputTokens") for event in events] == [10, None, 20, 10]
    assert events.total() == recorded(agent)


NO_COUNTERS = {"model": "x", "flag": True, "ratio": float("nan"), 7: 7, "_aws": 1}


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        pytest.param(*[{"reasoningTokens": 2, "seconds": 0.5}] * 2, id="counters that Strands may add"),
        pytest.param({"inputTokens": 3, **NO_COUNTERS}, {"inputTokens": 3}, id="what is no counter"),
        pytest.param({"inputTokens": 0}, {}, id="nothing spent"),
    ],
)
def test_each_counter_is_a_metric(events, hook, usage, expected):
    agent = make_agent()
    agent.event_loop_metrics.accumulated_usage = usage
    hook._on_after_invocation(AfterInvocationEvent(agent=agent))
    assert events.total() == expected


# Which hooks count.


@pytest.mark.parametrize(
    ("listed", "added", "expected"),
    [
        pytest.param(["mine", "mine"], [], {"mine": [10, 10]}, id="one listed twice"),
        pytest.param(["mine", "other"], [], {"mine": [10, 10], "other": [10, 10]}, id="two"),
        pytest.param([], ["mine"], {"mine": [20]}, id="one added to a used agent"),
        pytest.param(["other"], ["mine"], {"mine": [10], "other": [10, 10]}, id="a second one added later"),
    ],
)
def test_each_hook_of_an_agent_counts_on_from_what_was_reported(events, listed, added, expected):
    emitted = {"mine": events, "other": Events()}
    hooks = {name: TokenUsageHook(emitter=emitter) for name, emitter in emitted.items()}
    agent = make_agent(hooks=[hooks[name] for name in listed])
    agent("one")
    for name in added:
        agent.hooks.add_hook(hooks[name])
    agent("two")
    assert {name: emitter.inputs for name, emitter in emitted.items() if emitter} == expected


KEPT = []


def keep(event):
    KEPT.append(event)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickled])
def test_a_copy_of_a_hook_has_its_configuration_and_counts_as_it_does(copied):
    KEPT.clear()
    hook = TokenUsageHook(namespace="Team/Tokens", extra_properties={"tags": ["a"]}, emitter=keep)
    twin = copied(hook)
    assert vars(twin) == vars(hook)
    agent = make_agent(hooks=[hook, twin])
    agent("one")
    make_agent(hooks=[twin])("two")
    assert [event["inputTokens"] for event in KEPT] == [10, 10, 10]


def test_the_hook_keeps_no_agent_alive(hook):
    agent = make_agent(hooks=[hook])
    agent("hello")
    gone = weakref.ref(agent)
    del agent
    gc.collect()
    assert gone() is None


# The hook as a plugin.

plugins_exist = since("1.28", "plugins")


@plugins_exist
def test_a_plugin_counts_as_a_hook_does(events, hook):
    agent = make_agent(uses("look_up"), fails(), says(tokens=(7, 1)), plugins=[hook])
    for _ in range(2):
        call(agent)
    assert events.inputs == [20, 7]
    assert events.total() == reported(agent)


@plugins_exist
def test_a_hook_in_both_lists_counts_once(events, hook):
    make_agent(hooks=[hook], plugins=[hook])("hello")
    assert events.inputs == [10]


@plugins_exist
def test_two_plugins_each_count(events, hook):
    others = Events()
    make_agent(plugins=[hook, TokenUsageHook(emitter=others)])("hello")
    assert (events.inputs, others.inputs) == ([10], [10])


@first_in_line
def test_a_plugin_runs_before_other_callbacks(events, hook):
    def fail(event: AfterInvocationEvent) -> None:
        raise OSError("out of order")

    agent = make_agent(plugins=[hook])
    agent.hooks.add_callback(AfterInvocationEvent, fail, order=-1_000_000)
    with pytest.raises(OSError, match="out of order"):
        agent("hello")
    assert events.inputs == [10]


# Robustness: events made by hand, as unit tests make them, and objects that can keep nothing.


def by_hand(usage, **agent):
    return SimpleNamespace(result=SimpleNamespace(metrics=SimpleNamespace(accumulated_usage=usage)), **agent)


def agent_with(usage):
    return SimpleNamespace(event_loop_metrics=SimpleNamespace(accumulated_usage=usage))


@pytest.mark.parametrize(
    "make_event",
    [
        pytest.param(lambda usage: MagicMock(**{"result.metrics.accumulated_usage": usage}), id="a mock"),
        pytest.param(lambda usage: SimpleNamespace(agent=agent_with(usage)), id="an agent alone"),
        pytest.param(lambda usage: by_hand(usage), id="a result alone"),
        pytest.param(lambda usage: by_hand(usage, agent=None), id="None for the agent"),
        pytest.param(lambda usage: by_hand(usage, agent=SimpleNamespace()), id="an agent without metrics"),
        pytest.param(lambda usage: by_hand(usage, agent=agent_with({})), id="an agent without counters"),
        pytest.param(lambda usage: by_hand(usage, agent=MagicMock()), id="a mock agent"),
        pytest.param(lambda usage: by_hand(usage, agent=agent_with(usage)), id="an agent and a result"),
    ],
)
def test_an_event_made_by_hand_gives_its_usage_each_time(events, hook, make_event):
    event, other = make_event({"inputTokens": 100}), make_event({"inputTokens": 7})
    for emitted in (event, event, other):
        hook._on_after_invocation(emitted)
    vars(event).update(vars(other))  # a unit test may give an event another usage
    hook._on_after_invocation(event)
    assert events.inputs == [100, 100, 7, 7]


class Broken:
    def __getattr__(self, name):  # as event_loop_metrics of a bidirectional agent does
        raise NotImplementedError


@pytest.mark.parametrize(
    "event",
    [
        None,
        object(),
        MagicMock(result=None),
        MagicMock(),
        SimpleNamespace(result=None),
        SimpleNamespace(result=SimpleNamespace()),
        SimpleNamespace(agent=Broken(), result=SimpleNamespace(metrics=Broken())),
        *map(by_hand, [None, {}, "text", {"inputTokens": None}]),
    ],
)
def test_an_event_without_a_usable_result_or_usage_is_ignored_quietly(events, hook, caplog, event):
    hook._on_after_invocation(event)
    assert events == []
    assert caplog.records == []


def slotted(**members):
    """Return an object that has these attributes and can keep no other."""

    class Slotted:
        __slots__ = tuple(members)

    made = Slotted()
    for name, value in members.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize("kind", ["metrics", "event"])
def test_metrics_or_events_that_can_keep_nothing_are_logged_each_time(events, hook, caplog, kind):
    """Without memory, each event would silently carry the running total."""
    make_metrics, make_event = (
        slotted if kind == has_slots else SimpleNamespace for has_slots in ("metrics", "event")
    )
    agent = SimpleNamespace(event_loop_metrics=make_metrics(accumulated_usage={"inputTokens": 10}))
    for _ in range(2):
        hook._on_after_invocation(make_event(agent=agent, result=None))
    assert events == []
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
    assert all("{'inputTokens': 10}" in record.getMessage() for record in caplog.records)
