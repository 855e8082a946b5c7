"""Whatever goes wrong in a resolver, an emitter or the log, the agent answers as if there were no hook."""

import asyncio
import contextlib
import logging

import pytest

from scripted import make_agent, says
from strands_token_telemetry import TokenUsageHook


def fail(*arguments):
    raise OSError("out of order")


@pytest.fixture
def broken_log():
    class Handler(logging.Handler):
        def emit(self, record):
            raise RuntimeError("the log is broken too")

    handler = Handler()
    logger = logging.getLogger("strands_token_telemetry")
    logger.addHandler(handler)
    yield
    logger.removeHandler(handler)


def test_a_broken_log_does_not_reach_the_agent(broken_log):
    hook = TokenUsageHook(
        dimensions=[["Unknown"]], dimension_resolver=fail, property_resolver=fail, emitter=fail
    )
    assert str(make_agent(says("The answer."), hooks=[hook])("hello")) == "The answer.\n"


def test_a_broken_log_does_not_lose_the_event(broken_log, events):
    hook = TokenUsageHook(
        dimensions=[["Unknown"]], dimension_resolver=fail, property_resolver=fail, emitter=events
    )
    make_agent(hooks=[hook])("hello")
    assert [event["inputTokens"] for event in events] == [10]


def test_a_configuration_changed_to_nonsense_after_construction_leaves_the_counts_in_the_log(caplog):
    hook = TokenUsageHook()
    hook.dimensions = 7
    assert str(make_agent(says("The answer."), hooks=[hook])("hello")) == "The answer.\n"
    (record,) = caplog.records
    assert record.getMessage().startswith("token usage was not emitted: {'inputTokens': 10, ")


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
@pytest.mark.parametrize("parameter", ["emitter", "property_resolver"])
def test_what_stops_a_program_or_a_task_passes_and_leaves_the_counts_in_the_log(caplog, parameter, stop):
    def stopping(_):
        raise stop

    async def call():
        with pytest.raises(stop):
            await agent.invoke_async("hello")

    agent = make_agent(hooks=[TokenUsageHook(**{parameter: stopping})])
    coroutine = call()
    with contextlib.suppress(StopIteration):  # no event loop: it would stop at KeyboardInterrupt itself
        while True:
            coroutine.send(None)
    (record,) = [record for record in caplog.records if record.name == "strands_token_telemetry"]
    assert "'inputTokens': 10" in record.getMessage()
