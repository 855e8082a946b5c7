"""What the hook keeps and what an emission costs do not grow, with agents or with invocations."""

import gc
import sys
import tracemalloc
from types import SimpleNamespace

from strands.hooks import AfterInvocationEvent
from strands.telemetry.metrics import EventLoopMetrics

from scripted import make_agent
from strands_token_telemetry import TokenUsageHook


def forget(event):
    """Keep nothing, as a test must that looks at memory."""


def kept(hook):
    """Return the sizes of what the hook keeps, and the memory in use by all of the package."""
    gc.collect()
    package = tracemalloc.Filter(inclusive=True, filename_pattern="*/strands_token_telemetry/*")
    traces = tracemalloc.take_snapshot().filter_traces([package]).traces
    memory = hook._memory
    return len(memory._reported), len(memory._references), len(hook._registries), sum(t.size for t in traces)


def spend(hook, agent):
    for counter in ("inputTokens", "outputTokens", "totalTokens"):
        agent.event_loop_metrics.accumulated_usage[counter] += 1
    hook._on_after_invocation(AfterInvocationEvent(agent=agent))


def test_nothing_is_kept_of_agents_that_are_gone():
    hook = TokenUsageHook(emitter=forget)
    for _ in range(100):
        make_agent(hooks=[hook])("hello")
    gc.collect()
    assert (len(hook._memory._reported), len(hook._memory._references), len(hook._registries)) == (0, 0, 0)


def test_ten_thousand_agents_leave_what_five_thousand_do():
    def serve(agents):
        for n in range(agents):
            agent = SimpleNamespace(name=f"agent {n}", event_loop_metrics=EventLoopMetrics())
            spend(hook, agent)

    hook = TokenUsageHook(dimensions=[["AgentName"]], emitter=forget)
    tracemalloc.start()
    try:
        serve(5_000)
        half_way = kept(hook)
        serve(5_000)
        assert kept(hook)[:3] == (0, 0, 0)
        assert kept(hook)[3] <= half_way[3] + 1000
    finally:
        tracemalloc.stop()


def test_the_ten_thousandth_emission_takes_the_calls_and_the_memory_of_the_tenth():
    def calls_of_an_emission():
        calls = []
        sys.setprofile(lambda frame, event, argument: calls.append((event, frame.f_code.co_name)))
        try:
            spend(hook, agent)
        finally:
            sys.setprofile(None)
        return calls

    hook = TokenUsageHook(emitter=forget)
    agent = make_agent(hooks=[hook])
    tracemalloc.start()
    try:
        for _ in range(9):
            spend(hook, agent)
        tenth, half_way = calls_of_an_emission(), kept(hook)
        for _ in range(9_989):
            spend(hook, agent)
        assert calls_of_an_emission() == tenth
        assert kept(hook)[:3] == half_way[:3] == (1, 1, 1)
        assert kept(hook)[3] <= half_way[3] + 1000
    finally:
        tracemalloc.stop()
