"""The events for an agent always sum to what its model reported: each token once, none twice."""

import asyncio
import copy
import decimal
import gc
import json
import pickle
import threading
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
from pydantic import BaseModel
from strands import Agent, tool
from strands.hooks import AfterInvocationEvent
from strands.telemetry.metrics import EventLoopMetrics

from scripted import call, fails, hangs, make_agent, reentrant, says, since, uses
from strands_token_telemetry import TokenUsageHook

results_have_metrics = since("1.20", "AfterInvocationEvent.result")


class Answer(BaseModel):
    text: str = ""


def recorded(*agents):
    """Return what the metrics of agents hold: the truth."""
    total = {}
    for agent in agents:
        for name, count in agent.event_loop_metrics.accumulated_usage.items():
            total[name] = total.get(name, 0) + count
    return {name: count for name, count in total.items() if count}


def reported(*agents):
    """Return what the models of agents have said they used."""
    return sum((agent.model.reported for agent in agents), start=type(agents[0].model.reported)())


@pytest.mark.parametrize(
    ("turns", "calls", "expected"),
    [
        pytest.param([says(tokens=(10, 5)), says(tokens=(30, 7))], 2, [10, 30], id="a reused agent"),
        pytest.param(
            [uses("look_up", tokens=(20, 3)), says(tokens=(40, 5))], 1, [60], id="a call with a tool"
        ),
        pytest.param([fails()], 1, [], id="a call that fails and spent nothing"),
        pytest.param(
            [uses("look_up", tokens=(20, 3)), fails(), says(tokens=(7, 1))],
            2,
            [20, 7],
            id="a call that fails",
        ),
        pytest.param(
            [says(tokens=(0, 0))], 1, [0], id="a call that spends nothing", marks=results_have_metrics
        ),
    ],
)
def test_each_call_emits_what_it_spent(events, turns, calls, expected):
    agent = make_agent(*turns, hooks=[TokenUsageHook(emitter=events)])
    for _ in range(calls):
        call(agent)
    assert events.inputs == expected
    assert events.total() == reported(agent)


@since("1.5", "the counting of cached tokens")
def test_cache_counters_that_appear_later_are_counted_from_zero(events):
    cached = [says(cacheReadInputTokens=100, cacheWriteInputTokens=40), says(cacheReadInputTokens=7)]
    agent = make_agent(says(), *cached, hooks=[TokenUsageHook(emitter=events)])
    for _ in range(3):
        agent("hello")
    assert [event.get("cacheReadInputTokens") for event in events] == [None, 100, 7]
    assert events.total() == reported(agent)


def test_a_cancelled_task_emits_what_it_spent(events):
    async def cancel_while_the_model_thinks():
        task = asyncio.create_task(agent.invoke_async("look it up"))
        await agent.model.hanging.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    agent = make_agent(uses("look_up", tokens=(20, 3)), hangs(), hooks=[TokenUsageHook(emitter=events)])
    asyncio.run(cancel_while_the_model_thinks())
    assert events.inputs == [20]


@pytest.mark.skipif(not hasattr(Agent, "cancel"), reason="Agent.cancel came with a later Strands")
def test_agent_cancel_emits_what_was_spent(events):
    @tool
    def stop() -> str:
        """Stop the agent."""
        agent.cancel()
        return "stopped"

    turns = uses("stop", tokens=(20, 3)), says(tokens=(40, 5))
    agent = make_agent(*turns, tools=[stop], hooks=[TokenUsageHook(emitter=events)])
    assert agent("stop").stop_reason == "cancelled"
    agent("go on")
    assert events.inputs == [20, 40]


@since("1.30", "AfterInvocationEvent.resume")
def test_each_pass_of_a_resumed_call_emits_its_own_tokens(events):
    def resume_twice(event: AfterInvocationEvent) -> None:
        if passes:
            event.resume = passes.pop()

    passes, turns = ["go on", "and on"], [says(tokens=(n, n)) for n in (1, 2, 4)]
    agent = make_agent(*turns, hooks=[TokenUsageHook(emitter=events)])
    agent.hooks.add_callback(AfterInvocationEvent, resume_twice)
    agent("go")
    assert events.inputs == [1, 2, 4]


def test_legacy_structured_output_between_calls_counts_nothing_twice(events):
    agent = make_agent(hooks=[TokenUsageHook(emitter=events)])
    agent("one")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        agent.structured_output(Answer, "as JSON")
    agent("two")
    assert events.inputs == [10, 10]


def test_an_abandoned_stream_emits_what_it_spent(events):
    async def stop_reading_at_the_second_reply():
        stream = agent.stream_async("look it up")
        async for event in stream:
            if event.get("data") == "Never read.":
                break
        await stream.aclose()

    turns = uses("look_up", tokens=(20, 3)), says("Never read.", tokens=(40, 5)), says(tokens=(7, 1))
    agent = make_agent(*turns, hooks=[TokenUsageHook(emitter=events)])
    asyncio.run(stop_reading_at_the_second_reply())
    agent("again")
    # The second reply was abandoned before its usage came, so Strands never knew it.
    assert events.inputs == [20, 7]
    assert events.total() == recorded(agent)


def test_a_stream_that_the_garbage_collector_ends_emits_no_history(events):
    class Chat:
        def __init__(self):
            self.agent = make_agent(hooks=[hook])
            self.itself = self

    async def abandon_the_second_stream():
        chat = Chat()
        await chat.agent.invoke_async("one")
        chat.stream = chat.agent.stream_async("two")
        await chat.stream.__anext__()
        del chat
        gc.collect()
        await asyncio.sleep(0.01)  # the loop ends the stream

    hook = TokenUsageHook(emitter=events)
    asyncio.run(abandon_the_second_stream())
    assert events.inputs == [10]


def test_a_call_that_ends_while_another_one_is_counted_is_counted_once(events):
    class Counters(dict):
        def keys(self):  # where the garbage collector or a signal handler may end another call
            if not again:
                again.append(True)
                hook._on_after_invocation(AfterInvocationEvent(agent=agent))
            return super().keys()

        def __iter__(self):
            return iter(self.keys())

    again, hook = [], TokenUsageHook(emitter=events)
    agent = make_agent()
    agent.event_loop_metrics.accumulated_usage = Counters(inputTokens=10)
    hook._on_after_invocation(AfterInvocationEvent(agent=agent))
    assert again
    assert events.inputs == [10]


def test_one_hook_serves_many_agents_in_threads(events):
    hook = TokenUsageHook(emitter=events)
    agents = [make_agent(says(tokens=(n, 1)), hooks=[hook]) for n in range(1, 17)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda agent: [agent("hello") for _ in range(5)], agents))
    assert len(events) == 80
    assert events.total() == reported(*agents)


def test_one_hook_serves_many_agents_in_one_event_loop(events):
    async def call_all():
        await asyncio.gather(*(agent.invoke_async("hello") for agent in agents))
        await asyncio.gather(*(agent.invoke_async("hello") for agent in agents))

    hook = TokenUsageHook(emitter=events)
    agents = [make_agent(says(tokens=(n, 1)), hooks=[hook]) for n in range(1, 17)]
    asyncio.run(call_all())
    assert len(events) == 32
    assert events.total() == reported(*agents)


def test_one_agent_called_concurrently(events):
    async def call_ten_times():
        await asyncio.gather(*(agent.invoke_async("hello") for _ in range(10)))

    agent = make_agent(hooks=[TokenUsageHook(emitter=events)], **reentrant())
    asyncio.run(call_ten_times())
    assert events.total() == reported(agent)


def test_one_agent_called_from_many_threads(events):
    def call_at_once(_):
        barrier.wait()
        agent("hello")

    barrier = threading.Barrier(8)
    agent = make_agent(hooks=[TokenUsageHook(emitter=events)], **reentrant())
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(call_at_once, range(8)))
    assert events.total() == recorded(agent)


# What a user may do to the metrics between two calls.


def replace_metrics(agent):
    agent.event_loop_metrics = EventLoopMetrics()


def replace_counters(agent):
    agent.event_loop_metrics.accumulated_usage = {"inputTokens": 0, "outputTokens": 0, "totalTokens": 0}


def zero_counters(agent):
    agent.event_loop_metrics.accumulated_usage.update(inputTokens=0, outputTokens=0, totalTokens=0)


@pytest.mark.parametrize("reset", [replace_metrics, replace_counters, zero_counters])
@pytest.mark.parametrize(
    "tokens", [(3, 1), (3, 100)], ids=["less than before", "one counter more than before"]
)
def test_metrics_that_are_reset_start_at_zero(events, reset, tokens):
    agent = make_agent(says(tokens=(10, 50)), says(tokens=tokens), hooks=[TokenUsageHook(emitter=events)])
    agent("one")
    reset(agent)
    agent("two")
    agent("three")
    assert events.total() == reported(agent)


@pytest.mark.parametrize("reset", [replace_metrics, replace_counters])
def test_replaced_metrics_start_at_zero_even_if_more_is_spent_than_before(events, reset):
    agent = make_agent(says(tokens=(10, 5)), says(tokens=(30, 9)), hooks=[TokenUsageHook(emitter=events)])
    agent("one")
    reset(agent)
    agent("two")
    assert events.inputs == [10, 30]


def pickled(value):
    return pickle.loads(pickle.dumps(value))  # noqa: S301 (its own pickle)


@pytest.mark.parametrize(
    "copied", [lambda metrics: metrics, copy.deepcopy, pickled], ids=["put back", "deep", "pickle"]
)
def test_metrics_that_are_kept_or_copied_bring_along_what_was_reported(events, copied):
    hook = TokenUsageHook(emitter=events)
    agent = make_agent(hooks=[hook])
    agent("one")
    saved = copied(agent.event_loop_metrics)
    agent.event_loop_metrics = EventLoopMetrics()
    agent("two")
    restored = make_agent(hooks=[hook])
    restored.event_loop_metrics = saved
    restored("three")
    assert events.inputs == [10, 10, 10]
    assert recorded(restored)["inputTokens"] == 20


def test_metrics_shared_by_two_agents_are_counted_once(events):
    hook = TokenUsageHook(emitter=events)
    one, two = make_agent(hooks=[hook]), make_agent(hooks=[hook])
    two.event_loop_metrics = one.event_loop_metrics
    one("hello")
    two("hello")
    one("hello")
    assert events.total() == reported(one, two)


# What another hook, a plugin or a middleware may do at the end of a call.


def other_hook(replacement):
    """Return a callback that replaces the metrics; before Strands 1.43 it runs before the hook."""

    def replace(event: AfterInvocationEvent) -> None:
        event.agent.event_loop_metrics = replacement(event.agent.event_loop_metrics)

    return replace


@results_have_metrics
@pytest.mark.parametrize("before", [0, 1], ids=["from the start", "on a used agent"])
def test_metrics_that_another_hook_replaces_at_the_end_of_each_call_are_counted_by_each_hook(events, before):
    others = type(events)()
    agent = make_agent(hooks=[TokenUsageHook(emitter=events), TokenUsageHook(emitter=others)])
    for _ in range(before):
        agent("before there is such a hook")
    agent.hooks.add_callback(AfterInvocationEvent, other_hook(lambda metrics: EventLoopMetrics()))
    agent("one")
    agent("two")
    assert events.total() == others.total() == reported(agent)


@results_have_metrics
def test_two_metrics_objects_that_another_hook_swaps_are_both_remembered(events):
    def swap(metrics):
        kept.append(metrics)
        return kept.pop(0)

    kept = [EventLoopMetrics()]
    agent = make_agent(hooks=[TokenUsageHook(emitter=events)])
    agent.hooks.add_callback(AfterInvocationEvent, other_hook(swap))
    for _ in range(4):
        agent("hello")
    assert events.total() == reported(agent)


@results_have_metrics
def test_concurrent_calls_whose_metrics_another_hook_replaces_are_counted_once(events):
    def fresh(_):
        metrics = EventLoopMetrics()
        if hasattr(EventLoopMetrics, "reset_usage_metrics"):
            metrics.reset_usage_metrics()  # the other calls go on with it
        return metrics

    async def call_three_times():
        await asyncio.gather(*(agent.invoke_async("hello") for _ in range(3)))

    agent = make_agent(hooks=[TokenUsageHook(emitter=events)], **reentrant())
    agent.hooks.add_callback(AfterInvocationEvent, other_hook(fresh))
    asyncio.run(call_three_times())
    assert events.total() == reported(agent)


first_in_line = since("1.43", "the order of callbacks")


@first_in_line
def test_another_callback_that_raises_costs_no_event(events):
    def fail(event: AfterInvocationEvent) -> None:
        raise OSError("out of order")

    agent = make_agent(hooks=[TokenUsageHook(emitter=events)])
    agent.hooks.add_callback(AfterInvocationEvent, fail)
    agent.hooks.add_callback(AfterInvocationEvent, fail, order=-1_000_000)
    with pytest.raises(OSError, match="out of order"):
        agent("hello")
    assert events.total() == recorded(agent)


def test_a_call_that_is_cut_while_a_plugin_waits_for_its_tasks_costs_no_event(events):
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
    hooks = [TokenUsageHook(emitter=events)]
    agent = make_agent(*turns, tools=[slow], background_tasks={"always": ["slow"]}, hooks=hooks)
    asyncio.run(call_in_a_hurry())
    assert events.total() == recorded(agent)
    assert events.total()["totalTokens"] == 132


@pytest.mark.parametrize("metrics", [None, EventLoopMetrics], ids=["another agent's", "fresh ones"])
def test_a_middleware_that_returns_a_result_with_other_metrics_costs_no_token(events, metrics):
    stage = pytest.importorskip("strands.middleware._agent_stream", reason="it came with a later Strands")
    from strands.types._events import EventLoopStopEvent

    async def answer_of_another(context, next_fn):
        async for event in next_fn(context):
            if isinstance(event, EventLoopStopEvent):
                result = await other.invoke_async("say it better")
                state = metrics() if metrics else result.metrics
                event = EventLoopStopEvent(result.stop_reason, result.message, state, {})  # noqa: PLW2901
            yield event

    hook = TokenUsageHook(dimensions=[["AgentName"]], emitter=events)
    agent = make_agent(says(tokens=(100, 10)), name="agent", hooks=[hook])
    other = make_agent(says(tokens=(5, 5)), name="other", hooks=[hook])
    agent.add_middleware(stage.AgentStreamStage, answer_of_another)
    agent("hello")
    agent("hello")
    assert events.total(AgentName="agent") == recorded(agent)
    assert events.total(AgentName="other") == recorded(other)


@first_in_line
def test_a_result_of_another_agent_is_not_counted_where_nothing_was_spent(events):
    agent, other = make_agent(), make_agent()
    result = other("hello")
    TokenUsageHook(emitter=events)._on_after_invocation(AfterInvocationEvent(agent=agent, result=result))
    assert events.inputs == [0]


# Counters of any kind.


def numpy_integer(number):
    return pytest.importorskip("numpy", reason="numpy is not installed").int64(number)


@pytest.mark.parametrize("kind", [float, decimal.Decimal, numpy_integer])
def test_a_counter_of_another_number_type_is_a_number(events, kind):
    agent = make_agent(hooks=[TokenUsageHook(emitter=events)])
    usage = agent.event_loop_metrics.accumulated_usage
    usage.update({name: kind(count) for name, count in usage.items()})
    agent("one")
    agent("two")
    assert events.inputs == [10, 10]
    assert {type(event["inputTokens"]) for event in events} == {int}


@pytest.mark.parametrize(
    "bad", [float("inf"), float("nan"), -3, "12", None, True, 2**361, decimal.Decimal("NaN")], ids=str
)
def test_a_counter_that_is_no_number_for_once_costs_nothing_else_and_nothing_twice(events, bad):
    hook, agent = TokenUsageHook(emitter=events), make_agent()
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


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"inputTokens": 3, "reasoningTokens": 2, "audioSeconds": 0.5},) * 2,
        (
            {"inputTokens": 3, "model": "x", "flag": True, "ratio": float("nan"), 7: 7, "_aws": 1},
            {"inputTokens": 3},
        ),
        ({"inputTokens": 0}, {}),
    ],
    ids=["counters that Strands may add", "what is no counter", "nothing spent"],
)
def test_each_counter_by_a_name_that_cloudwatch_takes_is_a_metric(events, usage, expected):
    agent = make_agent()
    agent.event_loop_metrics.accumulated_usage = usage
    TokenUsageHook(emitter=events)._on_after_invocation(AfterInvocationEvent(agent=agent))
    assert events.total() == expected


# Which hooks count.


def test_a_hook_listed_twice_emits_once(events):
    hook = TokenUsageHook(emitter=events)
    agent = make_agent(hooks=[hook, hook])
    agent("hello")
    assert events.inputs == [10]


def test_two_hooks_each_count_everything(events):
    others = type(events)()
    other = TokenUsageHook(emitter=others, namespace="Other/Team")
    agent = make_agent(hooks=[TokenUsageHook(emitter=events), other])
    agent("one")
    agent("two")
    assert events.total() == others.total() == reported(agent)


def test_a_hook_added_to_a_used_agent_first_emits_what_was_spent_before(events):
    agent = make_agent()
    agent("before")
    agent.hooks.add_hook(TokenUsageHook(emitter=events))
    agent("after")
    assert events.inputs == [20]


def test_a_second_hook_starts_where_the_reports_of_the_agent_stand(events):
    agent = make_agent(hooks=[TokenUsageHook(emitter=lambda event: None)])
    agent("before")
    agent.hooks.add_hook(TokenUsageHook(emitter=events))
    agent("after")
    assert events.inputs == [10]


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


def test_the_hook_keeps_no_agent_alive(events):
    hook = TokenUsageHook(emitter=events)
    agent = make_agent(hooks=[hook])
    agent("hello")
    gone = weakref.ref(agent)
    del agent
    gc.collect()
    assert gone() is None


def test_tokens_of_an_event_whose_emitter_failed_are_in_the_log_and_not_in_the_next_event(events, caplog):
    def fail_once(payload):
        if not caplog.records:
            payload.clear()
            raise ConnectionError("no route")
        events(payload)

    agent = make_agent(says(tokens=(10, 5)), says(tokens=(30, 7)), hooks=[TokenUsageHook(emitter=fail_once)])
    agent("one")
    agent("two")
    assert events.inputs == [30]
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("strands_token_telemetry", "ERROR")
    assert record.exc_info[0] is ConnectionError
    events(json.loads(record.getMessage().partition(": ")[2]))
    assert events.total() == reported(agent)


# Events made by hand, as unit tests make them.

USAGE = {"inputTokens": 100, "outputTokens": 50, "totalTokens": 150}


def mock_event(usage):
    event = MagicMock()
    event.result.metrics.accumulated_usage = usage
    return event


def namespace_event(usage, **agent):
    result = SimpleNamespace(metrics=SimpleNamespace(accumulated_usage=usage))
    return SimpleNamespace(result=result, **agent)


def agent_event(usage):
    return SimpleNamespace(agent=SimpleNamespace(event_loop_metrics=SimpleNamespace(accumulated_usage=usage)))


@pytest.mark.parametrize(
    "make_event",
    [
        mock_event,
        agent_event,
        namespace_event,
        lambda usage: namespace_event(usage, agent=None),
        lambda usage: namespace_event(usage, agent=SimpleNamespace(name="x")),
        lambda usage: namespace_event(usage, agent=MagicMock()),
        lambda usage: namespace_event(usage, **vars(agent_event(usage))),
    ],
    ids=["mock", "agent alone", "no agent", "None", "namespace", "mock agent", "both"],
)
def test_an_event_made_by_hand_gives_its_usage_as_it_stands_each_time(events, make_event):
    hook = TokenUsageHook(emitter=events)
    event = make_event(USAGE)
    hook._on_after_invocation(event)
    hook._on_after_invocation(event)
    hook._on_after_invocation(make_event({"inputTokens": 7}))
    assert events.inputs == [100, 100, 7]


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
        broken_metrics(),
    ],
)
def test_an_event_without_a_usable_result_or_usage_is_ignored_quietly(events, caplog, event):
    TokenUsageHook(emitter=events)._on_after_invocation(event)
    assert events == []
    assert caplog.records == []


class Slotted:
    __slots__ = ("accumulated_usage",)


def test_metrics_that_can_keep_nothing_count_as_they_stand(events):
    metrics = Slotted()
    metrics.accumulated_usage = USAGE
    for _ in range(2):
        event = SimpleNamespace(result=SimpleNamespace(metrics=metrics))
        TokenUsageHook(emitter=events)._on_after_invocation(event)
    assert events.inputs == [100, 100]
