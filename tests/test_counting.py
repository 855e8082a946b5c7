"""The events for an agent always sum to what its model reported: each token once, none twice."""

import asyncio
import gc
import inspect
import json
import threading
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import strands.types.exceptions
from pydantic import BaseModel
from strands import Agent, tool
from strands.hooks import AfterInvocationEvent
from strands.telemetry.metrics import EventLoopMetrics

from scripted import fails, hangs, make_agent, says, since, uses
from strands_token_telemetry import TokenUsageHook
from strands_token_telemetry.usage import UsageMemory


@tool
def look_up() -> str:
    """Look something up."""
    return "found"


class Answer(BaseModel):
    text: str = ""


def input_tokens(events):
    return [event["inputTokens"] for event in events]


def assert_sums(events, *agents):
    expected = agents[0].model.reported.copy()
    for agent in agents[1:]:
        expected.update(agent.model.reported)
    assert events.total() == expected


def test_a_reused_agent_emits_what_each_call_spent(events):
    agent = make_agent(says(tokens=(10, 5)), says(tokens=(30, 7)), hooks=[TokenUsageHook(emitter=events)])
    agent("one")
    agent("two")
    assert input_tokens(events) == [10, 30]
    assert_sums(events, agent)


def test_a_call_with_tools_is_one_event(events):
    agent = make_agent(
        uses("look_up", tokens=(20, 3)),
        says(tokens=(40, 5)),
        tools=[look_up],
        hooks=[TokenUsageHook(emitter=events)],
    )
    agent("look it up")
    assert input_tokens(events) == [60]
    assert_sums(events, agent)


def test_a_failed_call_emits_what_it_spent_and_the_next_call_does_not_count_it_again(events):
    agent = make_agent(
        uses("look_up", tokens=(20, 3)),
        fails(),
        says(tokens=(7, 1)),
        tools=[look_up],
        hooks=[TokenUsageHook(emitter=events)],
    )
    with pytest.raises(Exception, match="the provider is down"):
        agent("look it up")
    assert input_tokens(events) == [20]
    agent("again")
    assert input_tokens(events) == [20, 7]
    assert_sums(events, agent)


def test_a_failed_call_that_spent_nothing_emits_nothing(events):
    agent = make_agent(fails(), hooks=[TokenUsageHook(emitter=events)])
    with pytest.raises(Exception, match="the provider is down"):
        agent("hello")
    assert events == []


@since("1.20", "AfterInvocationEvent.result")
def test_a_call_that_reports_no_tokens_is_still_an_invocation(events):
    agent = make_agent(says(tokens=(0, 0)), hooks=[TokenUsageHook(emitter=events)])
    agent("hello")
    assert input_tokens(events) == [0]


def test_a_cancelled_task_emits_what_it_spent(events):
    async def cancel_while_the_model_thinks():
        task = asyncio.create_task(agent.invoke_async("look it up"))
        await agent.model.hanging.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    agent = make_agent(
        uses("look_up", tokens=(20, 3)), hangs(), tools=[look_up], hooks=[TokenUsageHook(emitter=events)]
    )
    asyncio.run(cancel_while_the_model_thinks())
    assert input_tokens(events) == [20]


@pytest.mark.skipif(not hasattr(Agent, "cancel"), reason="Agent.cancel came with a later Strands")
def test_agent_cancel_emits_what_was_spent(events):
    @tool
    def stop() -> str:
        """Stop the agent."""
        agent.cancel()
        return "stopped"

    agent = make_agent(
        uses("stop", tokens=(20, 3)),
        says(tokens=(40, 5)),
        tools=[stop],
        hooks=[TokenUsageHook(emitter=events)],
    )
    assert agent("stop").stop_reason == "cancelled"
    agent("go on")
    assert input_tokens(events) == [20, 40]
    assert_sums(events, agent)


@since("1.30", "AfterInvocationEvent.resume")
def test_each_pass_of_a_resumed_call_emits_its_own_tokens(events):
    def resume_twice(event: AfterInvocationEvent) -> None:
        if len(events) < 2:  # runs before the hook
            event.resume = "go on"

    agent = make_agent(
        says(tokens=(1, 1)), says(tokens=(2, 2)), says(tokens=(4, 4)), hooks=[TokenUsageHook(emitter=events)]
    )
    agent.hooks.add_callback(AfterInvocationEvent, resume_twice)
    agent("go")
    assert input_tokens(events) == [1, 2, 4]
    assert_sums(events, agent)


def test_legacy_structured_output_between_calls_counts_nothing_twice(events):
    agent = make_agent(says(tokens=(10, 5)), hooks=[TokenUsageHook(emitter=events)])
    agent("one")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        agent.structured_output(Answer, "as JSON")
    agent("two")
    assert input_tokens(events) == [10, 10]
    assert_sums(events, agent)


@since("1.5", "the counting of cached tokens")
def test_cache_counters_that_appear_later_are_counted_from_zero(events):
    agent = make_agent(
        says(),
        says(cacheReadInputTokens=100, cacheWriteInputTokens=40),
        says(cacheReadInputTokens=7),
        hooks=[TokenUsageHook(emitter=events)],
    )
    for _ in range(3):
        agent("hello")
    assert [event.get("cacheReadInputTokens") for event in events] == [None, 100, 7]
    assert_sums(events, agent)


def test_an_abandoned_stream_emits_what_it_spent(events):
    async def stop_reading_at_the_second_reply():
        stream = agent.stream_async("look it up")
        async for event in stream:
            if event.get("data") == "Never read.":
                break
        await stream.aclose()

    agent = make_agent(
        uses("look_up", tokens=(20, 3)),
        says("Never read.", tokens=(40, 5)),
        says(tokens=(7, 1)),
        tools=[look_up],
        hooks=[TokenUsageHook(emitter=events)],
    )
    asyncio.run(stop_reading_at_the_second_reply())
    agent("again")
    # The second reply was abandoned before its usage came, so Strands never knew it.
    recorded = agent.event_loop_metrics.accumulated_usage
    assert events.total() == {name: count for name, count in recorded.items() if count}
    assert recorded["inputTokens"] == 27


def test_an_agent_used_as_a_tool_and_its_user_each_emit_their_own(events):
    hook = TokenUsageHook(dimensions=[["AgentName"]], emitter=events)

    @tool
    def ask_researcher() -> str:
        """Ask the researcher."""
        return str(researcher("what is known?"))

    researcher = make_agent(says(tokens=(100, 50)), name="researcher", hooks=[hook])
    writer = make_agent(
        uses("ask_researcher", tokens=(20, 3)),
        uses("ask_researcher", tokens=(30, 4)),
        says(tokens=(40, 5)),
        name="writer",
        tools=[ask_researcher],
        hooks=[hook],
    )
    writer("write")
    assert events.total(AgentName="researcher") == researcher.model.reported
    assert events.total(AgentName="writer") == writer.model.reported
    assert [event["AgentName"] for event in events] == ["researcher", "researcher", "writer"]


def test_one_hook_serves_many_agents_in_threads(events):
    hook = TokenUsageHook(emitter=events)
    agents = [make_agent(says(tokens=(n, 1)), hooks=[hook]) for n in range(1, 17)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda agent: [agent("hello") for _ in range(5)], agents))
    assert len(events) == 80
    assert_sums(events, *agents)


def test_one_hook_serves_many_agents_in_one_event_loop(events):
    async def call_all():
        await asyncio.gather(*(agent.invoke_async("hello") for agent in agents))
        await asyncio.gather(*(agent.invoke_async("hello") for agent in agents))

    hook = TokenUsageHook(emitter=events)
    agents = [make_agent(says(tokens=(n, 1)), hooks=[hook]) for n in range(1, 17)]
    asyncio.run(call_all())
    assert len(events) == 32
    assert_sums(events, *agents)


def reentrant():
    """Return the arguments that let one agent be called concurrently: in the first releases, none."""
    parameter = inspect.signature(Agent).parameters.get("concurrent_invocation_mode")
    if parameter is not None:
        return {"concurrent_invocation_mode": type(parameter.default).UNSAFE_REENTRANT}
    if hasattr(strands.types.exceptions, "ConcurrencyException"):
        pytest.skip("this Strands refuses concurrent calls of an agent")
    return {}


def test_one_agent_called_concurrently(events):
    async def call_ten_times():
        await asyncio.gather(*(agent.invoke_async("hello") for _ in range(10)))

    agent = make_agent(hooks=[TokenUsageHook(emitter=events)], **reentrant())
    asyncio.run(call_ten_times())
    assert_sums(events, agent)


def test_one_agent_called_from_many_threads(events):
    def call_at_once(_):
        barrier.wait()
        agent("hello")

    barrier = threading.Barrier(8)
    agent = make_agent(hooks=[TokenUsageHook(emitter=events)], **reentrant())
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(call_at_once, range(8)))
    recorded = agent.event_loop_metrics.accumulated_usage
    assert events.total() == {name: count for name, count in recorded.items() if count}


def test_a_replaced_metrics_object_starts_at_zero(events):
    agent = make_agent(
        says(tokens=(10, 5)),
        says(tokens=(30, 7)),
        says(tokens=(2, 1)),
        hooks=[TokenUsageHook(emitter=events)],
    )
    agent("one")
    agent.event_loop_metrics = EventLoopMetrics()
    agent("two")
    agent("three")
    assert input_tokens(events) == [10, 30, 2]
    assert_sums(events, agent)


def test_metrics_that_are_put_back_are_not_counted_again(events):
    agent = make_agent(hooks=[TokenUsageHook(emitter=events)])
    first = agent.event_loop_metrics
    agent("one")
    agent.event_loop_metrics = EventLoopMetrics()
    agent("two")
    agent.event_loop_metrics = first
    agent("three")
    assert input_tokens(events) == [10, 10, 10]


def test_metrics_shared_by_two_agents_are_counted_once(events):
    hook = TokenUsageHook(emitter=events)
    one, two = make_agent(hooks=[hook]), make_agent(hooks=[hook])
    two.event_loop_metrics = one.event_loop_metrics
    one("hello")
    two("hello")
    one("hello")
    assert_sums(events, one, two)


@pytest.mark.parametrize(
    "reset",
    [
        lambda metrics: setattr(metrics, "accumulated_usage", dict.fromkeys(metrics.accumulated_usage, 0)),
        lambda metrics: metrics.accumulated_usage.update(dict.fromkeys(metrics.accumulated_usage, 0)),
    ],
    ids=["replaced", "in place"],
)
@pytest.mark.parametrize(
    "tokens", [(3, 1), (3, 100)], ids=["less than before", "one counter more than before"]
)
def test_counters_that_the_user_resets_start_at_zero(events, reset, tokens):
    agent = make_agent(says(tokens=(10, 50)), says(tokens=tokens), hooks=[TokenUsageHook(emitter=events)])
    agent("one")
    reset(agent.event_loop_metrics)
    agent("two")
    assert_sums(events, agent)


def test_counters_replaced_by_the_user_start_at_zero_even_if_more_is_spent_than_before(events):
    agent = make_agent(says(tokens=(10, 5)), says(tokens=(30, 9)), hooks=[TokenUsageHook(emitter=events)])
    agent("one")
    agent.event_loop_metrics.accumulated_usage = {"inputTokens": 0, "outputTokens": 0, "totalTokens": 0}
    agent("two")
    assert_sums(events, agent)


@since("1.20", "AfterInvocationEvent.result")
def test_metrics_replaced_by_another_hook_at_the_end_of_a_call_are_counted_first(events):
    def reset(event: AfterInvocationEvent) -> None:
        event.agent.event_loop_metrics = EventLoopMetrics()

    agent = make_agent(hooks=[TokenUsageHook(emitter=events)])
    agent("before there is such a hook")
    agent.hooks.add_callback(AfterInvocationEvent, reset)  # runs first: the order is reversed
    agent("one")
    agent("two")
    assert_sums(events, agent)


@since("1.20", "AfterInvocationEvent.result")
def test_concurrent_calls_whose_metrics_another_hook_replaces_are_counted_once(events):
    async def call_three_times():
        await asyncio.gather(*(agent.invoke_async("hello") for _ in range(3)))

    def reset(event: AfterInvocationEvent) -> None:
        event.agent.event_loop_metrics = EventLoopMetrics()
        if hasattr(EventLoopMetrics, "reset_usage_metrics"):
            event.agent.event_loop_metrics.reset_usage_metrics()  # the other calls go on with it

    agent = make_agent(hooks=[TokenUsageHook(emitter=events)], **reentrant())
    agent.hooks.add_callback(AfterInvocationEvent, reset)
    asyncio.run(call_three_times())
    assert_sums(events, agent)


@since("1.20", "AfterInvocationEvent.result")
def test_two_metrics_objects_that_another_hook_swaps_are_both_remembered(events):
    def swap(event: AfterInvocationEvent) -> None:
        others.append(event.agent.event_loop_metrics)
        event.agent.event_loop_metrics = others.pop(0)

    others = [EventLoopMetrics()]
    agent = make_agent(hooks=[TokenUsageHook(emitter=events)])
    agent.hooks.add_callback(AfterInvocationEvent, swap)
    for _ in range(4):
        agent("hello")
    assert_sums(events, agent)


def test_counters_asked_for_while_they_are_asked_for_are_given_once():
    class Metrics:
        @property
        def accumulated_usage(self):
            if not inner:  # as when the garbage collector finishes an abandoned stream just now
                inner.append({})
                inner[0] = memory.spent(self)
            return usage

    inner, usage, memory = [], {"inputTokens": 10}, UsageMemory()
    metrics = Metrics()
    assert memory.spent(metrics) == {"inputTokens": 10}
    assert inner == [{}]
    assert memory.spent(metrics) == {"inputTokens": 0}


def test_a_hook_listed_twice_emits_once(events):
    hook = TokenUsageHook(emitter=events)
    agent = make_agent(hooks=[hook, hook])
    agent("hello")
    assert input_tokens(events) == [10]


def test_two_hooks_with_two_emitters_each_count_everything(events):
    others = type(events)()
    agent = make_agent(
        hooks=[TokenUsageHook(emitter=events), TokenUsageHook(emitter=others, namespace="Other/Team")]
    )
    agent("one")
    agent("two")
    assert_sums(events, agent)
    assert_sums(others, agent)


def test_a_hook_added_to_a_used_agent_first_emits_what_was_spent_before(events):
    agent = make_agent()
    agent("before")
    agent.hooks.add_hook(TokenUsageHook(emitter=events))
    agent("after")
    assert input_tokens(events) == [20]
    assert_sums(events, agent)


def test_tokens_of_an_event_whose_emitter_failed_are_in_the_log_and_not_in_the_next_event(events, caplog):
    def fail_once(payload):
        if not caplog.records:
            payload.clear()
            raise ConnectionError("no route")
        events(payload)

    agent = make_agent(says(tokens=(10, 5)), says(tokens=(30, 7)), hooks=[TokenUsageHook(emitter=fail_once)])
    agent("one")
    agent("two")
    assert input_tokens(events) == [30]
    (record,) = caplog.records
    assert record.name == "strands_token_telemetry"
    assert record.levelname == "ERROR"
    assert record.exc_info[0] is ConnectionError
    events(json.loads(record.getMessage().partition(": ")[2]))
    assert_sums(events, agent)


def test_the_hook_keeps_no_agent_alive(events):
    hook = TokenUsageHook(emitter=events)
    agent = make_agent(hooks=[hook])
    agent("hello")
    gone = weakref.ref(agent)
    del agent
    gc.collect()
    assert gone() is None
    assert not hook._memory._reported
