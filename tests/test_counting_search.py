"""Whatever happens to agents, in whatever order: what is emitted for each is what its model reported."""

import asyncio
import copy
import gc
import json
import logging
import warnings
from collections import Counter
from itertools import count

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule
from pydantic import BaseModel
from strands.hooks import AfterInvocationEvent
from strands.telemetry.metrics import EventLoopMetrics

from conftest import Events
from scripted import STRANDS, call, fails, hangs, make_agent, says, uses
from strands_token_telemetry import TokenUsageHook

TOKENS = st.tuples(st.integers(0, 5000), st.integers(0, 5000))
# Strands adds cached tokens up since 1.5.
CACHE = st.fixed_dictionaries(
    {}, optional={"cacheReadInputTokens": st.integers(0, 99), "cacheWriteInputTokens": st.integers(0, 99)}
)
REPLY = st.builds(
    lambda tokens, cache: says(tokens=tokens, **(cache if STRANDS >= (1, 5) else {})), TOKENS, CACHE
)


class Answer(BaseModel):
    text: str = ""


class Undelivered(logging.Handler):
    """Keeps the events that the log holds because their emitter failed."""

    def __init__(self):
        super().__init__(logging.ERROR)
        self.events = Events()

    def emit(self, record):
        self.events(json.loads(record.getMessage().partition(": ")[2]))


class Agents(RuleBasedStateMachine):
    agents = Bundle("agents")

    def __init__(self):
        super().__init__()
        self.names = (f"agent-{number}" for number in count())
        self.undelivered = Undelivered()
        self.logger = logging.getLogger("strands_token_telemetry")
        self.logger.addHandler(self.undelivered)
        self.logger.propagate = False
        self.collected = [Events(), Events(), Events()]
        self.attempts = count()
        self.hooks = [
            TokenUsageHook(dimensions=[["AgentName"]], emitter=emitter)
            for emitter in (self.collected[0], self.collected[1], self.fail_every_third_time)
        ]
        self.truth = {}  # by the name of an agent: what its model reported, and its hooks

    def fail_every_third_time(self, payload):
        if next(self.attempts) % 3 == 0:
            raise ConnectionError
        self.collected[2](payload)

    def teardown(self):
        self.logger.removeHandler(self.undelivered)
        self.logger.propagate = True

    @rule(target=agents, hooks=st.sets(st.integers(0, 2), min_size=1))
    def a_new_agent(self, hooks):
        name = next(self.names)
        agent = make_agent(name=name, hooks=[self.hooks[number] for number in hooks])
        self.truth[name] = (agent.model.reported, hooks)
        return agent

    def play(self, agent, *turns):
        agent.model.turns[:] = turns
        agent.model.restart()

    @rule(agent=agents, reply=REPLY)
    def a_call_succeeds(self, agent, reply):
        self.play(agent, reply)
        agent("hello")

    @rule(agent=agents, first=TOKENS, second=TOKENS, reply=REPLY)
    def a_call_uses_tools(self, agent, first, second, reply):
        self.play(agent, uses("look_up", "look_up", tokens=first), uses("look_up", tokens=second), reply)
        agent("look it up")

    @rule(agent=agents, spent=st.none() | TOKENS)
    def a_call_fails(self, agent, spent):
        self.play(agent, *([uses("look_up", tokens=spent)] if spent else []), fails())
        call(agent)
        self.end_the_turn(agent)

    @rule(agent=agents, spent=TOKENS)
    def a_call_is_cancelled(self, agent, spent):
        async def cancel():
            agent.model.hanging = asyncio.Event()
            task = asyncio.create_task(agent.invoke_async("look it up"))
            await agent.model.hanging.wait()
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()

        self.play(agent, uses("look_up", tokens=spent), hangs())
        asyncio.run(cancel())
        self.end_the_turn(agent)

    @rule(agent=agents, spent=TOKENS)
    def a_stream_is_abandoned(self, agent, spent):
        async def stop_reading():
            async for event in agent.stream_async("look it up"):
                if event.get("data") == "Never read to the end.":
                    break

        self.play(agent, uses("look_up", tokens=spent), says("Never read to the end."))
        asyncio.run(stop_reading())
        self.end_the_turn(agent)

    @precondition(lambda self: STRANDS >= (1, 30))
    @rule(agent=agents, first=REPLY, second=REPLY, third=REPLY)
    def a_call_is_resumed_twice(self, agent, first, second, third):
        def resume(event: AfterInvocationEvent) -> None:
            if event.agent is agent and passes:
                event.resume = passes.pop()

        passes = ["go on", "and on"]
        agent.hooks.add_callback(AfterInvocationEvent, resume)
        self.play(agent, first, second, third)
        agent("go")
        assert passes == []

    @rule(agent=agents)
    def structured_output_is_asked_for_the_old_way(self, agent):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            agent.structured_output(Answer, "as JSON")

    @rule(agent=agents)
    def the_metrics_are_replaced(self, agent):
        agent.event_loop_metrics = EventLoopMetrics()

    @rule(agent=agents)
    def the_metrics_are_copied(self, agent):
        agent.event_loop_metrics = copy.deepcopy(agent.event_loop_metrics)

    @precondition(lambda self: STRANDS >= (1, 20))  # before, a hook sees the new metrics only
    @rule(agent=agents, reply=REPLY)
    def another_hook_replaces_the_metrics_at_the_end_of_a_call(self, agent, reply):
        def replace(event: AfterInvocationEvent) -> None:
            if event.agent is agent and calls:
                calls.pop()
                agent.event_loop_metrics = EventLoopMetrics()

        calls = ["this one"]
        agent.hooks.add_callback(AfterInvocationEvent, replace)  # before Strands 1.43 it runs first
        self.a_call_succeeds(agent, reply)
        assert calls == []

    @rule(agent=agents)
    def the_counters_are_replaced(self, agent):
        agent.event_loop_metrics.accumulated_usage = dict.fromkeys(
            ["inputTokens", "outputTokens", "totalTokens"], 0
        )

    @rule(agent=agents)
    def the_counters_are_reset_in_place(self, agent):
        # A reset in place shows only when a counter is lower than before at the end of a call.
        usage = agent.event_loop_metrics.accumulated_usage
        if usage["totalTokens"] > 1:
            usage.update(dict.fromkeys(usage, 0))
            self.a_call_succeeds(agent, says(tokens=(1, 0)))

    @rule(agent=consumes(agents))
    def an_agent_is_dropped(self, agent):
        del agent
        gc.collect()

    def end_the_turn(self, agent):
        """Make the conversation one that a model would take: the next message is the user's."""
        del agent.messages[:]

    @invariant()
    def what_is_emitted_is_what_the_models_reported(self):
        for name, (reported, hooks) in self.truth.items():
            for number in hooks:
                emitted = self.collected[number].total(AgentName=name)
                if number == 2:
                    emitted += self.undelivered.events.total(AgentName=name)
                assert emitted == +Counter(reported), (name, number)


TestConservation = Agents.TestCase
