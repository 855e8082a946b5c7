"""Whatever happens to an agent, in any order: its events sum to what its model reported."""

import asyncio
import copy
import pickle
import warnings

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule
from pydantic import create_model
from strands.hooks import AfterInvocationEvent
from strands.telemetry.metrics import EventLoopMetrics

from helpers import STRANDS, Events, call, fails, hangs, make_agent, says, uses, without_zeros
from strands_token_telemetry import TokenUsageHook

TOKENS = st.tuples(st.integers(-500, 5000), st.integers(0, 5000))  # a gateway may report negative numbers
CACHE_COUNTERS = ["cacheReadInputTokens", "cacheWriteInputTokens"] if STRANDS >= (1, 5) else []
CACHE = st.fixed_dictionaries({}, optional=dict.fromkeys(CACHE_COUNTERS, st.integers(0, 99)))
REPLY = st.builds(lambda tokens, cache: says(tokens=tokens, **cache), TOKENS, CACHE)
COPY = st.sampled_from([copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
ANSWER = create_model("Answer", text=(str, ""))


class Agents(RuleBasedStateMachine):
    agents = Bundle("agents")

    def __init__(self):
        super().__init__()
        self.collected = [Events(), Events()]
        self.hooks = [TokenUsageHook(dimensions=[["AgentName"]], emitter=events) for events in self.collected]
        self.truth = {}  # by the name of an agent: what its model reported, and its hooks

    @rule(target=agents, hooks=st.sets(st.integers(0, 1), min_size=1))
    def a_new_agent(self, hooks):
        name = f"agent {len(self.truth)}"
        agent = make_agent(name=name, hooks=[self.hooks[number] for number in hooks])
        self.truth[name] = (agent.model.reported, hooks)
        return agent

    def script(self, agent, *turns):
        agent.model.turns[:] = turns
        agent.model.restart()
        del agent.messages[:]  # a call that was cut off leaves messages that no model accepts

    @rule(agent=agents, spent=st.lists(TOKENS, max_size=2), end=REPLY | st.builds(fails))
    def a_call_uses_tools_and_succeeds_or_fails(self, agent, spent, end):
        self.script(agent, *(uses("look_up", "look_up", tokens=tokens) for tokens in spent), end)
        call(agent)

    @rule(agent=agents, spent=TOKENS)
    def a_call_is_cancelled(self, agent, spent):
        async def cancel():
            agent.model.hanging = asyncio.Event()
            task = asyncio.create_task(agent.invoke_async("look it up"))
            await agent.model.hanging.wait()
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()

        self.script(agent, uses("look_up", tokens=spent), hangs())
        asyncio.run(cancel())

    @rule(agent=agents, spent=TOKENS)
    def a_stream_is_abandoned(self, agent, spent):
        async def stop_reading():
            async for event in agent.stream_async("look it up"):
                if event.get("data") == "Never read to the end.":
                    break

        self.script(agent, uses("look_up", tokens=spent), says("Never read to the end."))
        asyncio.run(stop_reading())

    @precondition(lambda self: STRANDS >= (1, 30))
    @rule(agent=agents, first=REPLY, second=REPLY, third=REPLY)
    def a_call_is_resumed_twice(self, agent, first, second, third):
        def resume(event: AfterInvocationEvent) -> None:
            if passes:
                event.resume = passes.pop()

        passes = ["go on", "and on"]
        agent.hooks.add_callback(AfterInvocationEvent, resume)
        self.script(agent, first, second, third)
        agent("go")
        assert passes == []

    @rule(agent=agents)
    def structured_output_is_asked_for_the_old_way(self, agent):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            agent.structured_output(ANSWER, "as JSON")

    @rule(agent=agents)
    def the_metrics_are_replaced(self, agent):
        agent.event_loop_metrics = EventLoopMetrics()

    @rule(agent=agents, copied=COPY)
    def the_metrics_are_copied(self, agent, copied):
        agent.event_loop_metrics = copied(agent.event_loop_metrics)

    @rule(agent=agents)
    def the_counters_are_replaced(self, agent):
        agent.event_loop_metrics.accumulated_usage = EventLoopMetrics().accumulated_usage

    @invariant()
    def what_is_emitted_is_what_the_models_reported(self):
        for name, (reported, hooks) in self.truth.items():
            for number in hooks:
                assert self.collected[number].total(AgentName=name) == without_zeros(reported), (name, number)


TestConservation = Agents.TestCase
