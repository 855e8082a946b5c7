"""Where a dimension's value and an event's properties come from, and that no resolver loses a count."""

import datetime as dt
import re
import time
from types import SimpleNamespace

import pytest

from scripted import ScriptedModel, make_agent, says, since
from strands_token_telemetry import TokenUsageHook
from strands_token_telemetry.emf import MAX_EVENT_LENGTH
from strands_token_telemetry.emitters import encode


def call(events, *turns, prompt="hello", agent=None, **configuration):
    agent = agent or {}
    make_agent(*turns, hooks=[TokenUsageHook(emitter=events, **configuration)], **agent)(prompt)
    return events[-1]


def test_the_model_is_found(events):
    assert (
        call(events, agent={"model_id": "anthropic.claude-sonnet-4"})["Model"] == "anthropic.claude-sonnet-4"
    )


def test_the_name_of_the_agent_is_found(events):
    event = call(events, dimensions=[["Model", "AgentName"]], agent={"name": "planner"})
    assert event["AgentName"] == "planner"


def test_a_sagemaker_model_is_known_by_its_endpoint(events, monkeypatch):
    monkeypatch.setattr(ScriptedModel, "get_config", lambda self: {"endpoint_name": "my-endpoint"})
    assert call(events)["Model"] == "my-endpoint"


@pytest.mark.parametrize("config", [None, {}, {"model_id": None}, {"model_id": 7}, RuntimeError("no config")])
def test_a_model_that_cannot_be_found_is_unknown_and_said_once(events, monkeypatch, caplog, config):
    def get_config(self):
        if isinstance(config, Exception):
            raise config
        return config

    monkeypatch.setattr(ScriptedModel, "get_config", get_config)
    agent = make_agent(hooks=[TokenUsageHook(emitter=events)])
    if config is not None and not isinstance(config, Exception):
        agent("hello")
        agent("hello")
    else:  # newer releases of Strands read the configuration themselves
        hook = TokenUsageHook(emitter=events)
        for _ in range(2):
            hook._on_after_invocation(_event_of(agent))
    assert [event["Model"] for event in events] == ["unknown", "unknown"]
    (record,) = [record for record in caplog.records if record.name == "strands_token_telemetry"]
    assert record.levelname == "WARNING"
    assert "'Model'" in record.getMessage()


def _event_of(agent):
    metrics = SimpleNamespace(accumulated_usage={"inputTokens": 1})
    return SimpleNamespace(agent=agent, result=SimpleNamespace(metrics=metrics))


def test_the_resolver_wins_over_the_value_over_the_property_over_what_the_hook_finds(events):
    hook = {
        "dimensions": [["Model", "A", "B", "C", "D"]],
        "dimension_resolver": lambda event: {"A": "resolver", "B": None},
        "dimension_values": {"A": "value", "B": "value"},
        "extra_properties": {"A": "property", "B": "property", "C": "property", "Model": "property"},
        "property_resolver": lambda event: {"D": "per call"},
    }
    event = call(events, **hook)
    assert {name: event[name] for name in ("A", "B", "C", "D", "Model")} == {
        "A": "resolver",
        "B": "value",
        "C": "property",
        "D": "per call",
        "Model": "property",
    }


def test_a_property_resolver_wins_over_fixed_properties(events):
    event = call(
        events,
        extra_properties={"Tier": "gold", "SessionId": "none"},
        property_resolver=lambda event: {"SessionId": "s-1"},
    )
    assert (event["Tier"], event["SessionId"]) == ("gold", "s-1")


@since("1.24", "AfterInvocationEvent.invocation_state")
def test_a_shared_agent_gives_the_session_of_each_call(events):
    hook = TokenUsageHook(
        emitter=events, property_resolver=lambda event: {"SessionId": event.invocation_state["session_id"]}
    )
    agent = make_agent(says(tokens=(1, 1)), says(tokens=(2, 1)), hooks=[hook])
    agent("hello", invocation_state={"session_id": "s-1"})
    agent("hello", invocation_state={"session_id": "s-2"})
    assert [(event["SessionId"], event["inputTokens"]) for event in events] == [("s-1", 1), ("s-2", 2)]


async def a_coroutine():
    return {}


def raise_error(event):
    raise LookupError("no session")


@pytest.mark.parametrize("parameter", ["dimension_resolver", "property_resolver"])
@pytest.mark.parametrize(
    "resolver",
    [
        raise_error,
        lambda event: None,
        lambda event: 7,
        lambda event: "text",
        lambda event: [("Model", "x")],
        lambda event: {7: "x"},
        lambda event: a_coroutine(),
    ],
    ids=["raises", "None", "number", "text", "list", "key that is no string", "coroutine"],
)
def test_a_resolver_that_fails_is_logged_and_the_event_goes_out_without_its_values(
    events, caplog, parameter, resolver
):
    event = call(events, **{parameter: resolver})
    assert (event["Model"], event["inputTokens"]) == ("scripted-1", 10)
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("strands_token_telemetry", "ERROR")
    assert record.exc_info
    assert record.getMessage().startswith(f"{parameter} failed; ")
    assert isinstance(record.exc_info[1], LookupError) or parameter in str(record.exc_info[1])


def test_a_resolver_cannot_touch_the_metadata(events):
    event = call(
        events, dimension_resolver=lambda event: {"_aws": "x"}, property_resolver=lambda event: {"_aws": {}}
    )
    assert event["inputTokens"] == 10


def test_an_event_without_dimensions(events):
    assert "Model" not in call(events, dimensions=[[]])


def test_dimension_sets_go_out_as_given(events):
    sets = [["Model", "Stage"], ["Stage"], []]
    event = call(events, dimensions=sets, dimension_values={"Stage": "prod"})
    assert event["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == sets


def test_an_emitter_that_changes_its_event_changes_no_other(events):
    def spoil(payload):
        events(payload)
        payload["_aws"]["CloudWatchMetrics"][0]["Dimensions"][0].append("Spoilt")
        payload["tags"].append("spoilt")
        payload.clear()

    agent = make_agent(hooks=[TokenUsageHook(emitter=spoil, extra_properties={"tags": ["a"]})])
    agent("one")
    agent("two")
    assert [event["tags"] for event in events] == [["a"], ["a"]]


class Unprintable:
    def __repr__(self):
        raise RuntimeError("no repr")


class Broken(dict):
    def items(self):
        raise RuntimeError("no items")

    def __iter__(self):
        raise RuntimeError("no iteration")


CIRCULAR = {"name": "loop"}
CIRCULAR["self"] = [CIRCULAR]

DEEP = []
for _ in range(100_000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("value", "readable"),
    [
        ({1, 2}, [1, 2]),
        (dt.date(2026, 1, 2), "2026-01-02"),
        (b"bytes", "b'bytes'"),
        (float("nan"), "nan"),
        ([1, float("-inf"), {"deep": {3}}], [1, "-inf", {"deep": [3]}]),
        ({("a", 1): "tuple key", None: 1, b"k": 2}, {"('a', 1)": "tuple key", "None": 1, "b'k'": 2}),
        (CIRCULAR, {"name": "loop", "self": ["(circular reference)"]}),
        ("lone \ud800 surrogate", "lone \\ud800 surrogate"),
        ({"\udfff": ["🦜\ud83e"]}, {"\\udfff": ["🦜\\ud83e"]}),
        (10**5000, hex(10**5000)),
        (["fine", ValueError("an error")], ["fine", "an error"]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_property_that_json_does_not_know_goes_out_readable_and_all_else_unchanged(events, value, readable):
    healthy = {"text": "naïve 🦜", "number": 1.5, "none": None, "nested": {"a": [1, True]}}
    event = call(events, extra_properties={**healthy, "odd": value})
    assert event["odd"] == readable
    assert {name: event[name] for name in healthy} == healthy
    assert event["inputTokens"] == 10


@pytest.mark.parametrize(
    "value", [Unprintable(), [Unprintable()], Broken(a=1), DEEP], ids=lambda v: type(v).__name__
)
def test_a_property_without_any_text_costs_nothing_else(events, value):
    event = call(events, extra_properties={"odd": value, "SessionId": "s-1"})
    assert (event["SessionId"], event["inputTokens"]) == ("s-1", 10)
    assert re.search("Unprintable object at|{'a': 1}|nested too deeply", str(event["odd"]))


def test_an_oversized_property_is_left_out_with_a_note(events):
    event = call(events, extra_properties={"transcript": "x" * 300_000, "SessionId": "s-1"})
    assert event["transcript"] == "(300002 bytes left out)"
    assert (event["SessionId"], event["inputTokens"]) == ("s-1", 10)


@pytest.mark.parametrize("size", [10_000, 900, 30, 1], ids="properties of {} bytes".format)
@pytest.mark.parametrize("name_size", [6, 250, 20_000], ids="names of {} bytes".format)
def test_what_is_too_much_together_is_left_out_largest_first_and_no_dimension_or_metric(
    events, size, name_size
):
    number = 300_000 // (size + name_size) + 20
    properties = {f"{n:0{name_size}}": "x" * (size + n % 7) for n in range(number)} | {"note": "y"}
    event = call(
        events, dimensions=[["Stage"]], dimension_values={"Stage": "s" * 1024}, extra_properties=properties
    )
    assert event["Stage"] == "s" * 1024
    assert event["inputTokens"] == 10
    assert event["note"] == "y"
    kept = [name for name, value in properties.items() if event.get(name) == value]
    assert len(kept) < number
    if size >= 900 and name_size == 6:  # the largest have a note instead
        assert event.keys() >= properties.keys()
        left_out = properties.keys() - set(kept)
        assert (
            min(len(properties[name]) for name in left_out) >= max(len(properties[name]) for name in kept) - 1
        )
    assert len(encode(event)) > MAX_EVENT_LENGTH - size - name_size - 20  # no more than had to


def test_a_line_may_be_as_long_as_the_limit_and_no_longer(events):
    rest = len(encode({"note": ""}))
    for length, kept in [(MAX_EVENT_LENGTH - rest, True), (MAX_EVENT_LENGTH - rest + 1, False)]:
        line = encode({"note": "x" * length})
        assert (len(line) == MAX_EVENT_LENGTH) is kept
        assert len(line) <= MAX_EVENT_LENGTH
    # The same where a value has to be made readable first.
    rest = len(encode({"odd": {1}, "note": ""}))
    for length, kept in [(MAX_EVENT_LENGTH - rest, True), (MAX_EVENT_LENGTH - rest + 1, False)]:
        line = encode({"odd": {1}, "note": "x" * length})
        assert (len(line) == MAX_EVENT_LENGTH) is kept
        assert len(line) <= MAX_EVENT_LENGTH


def test_the_timestamp_is_now(events):
    timestamp = call(events)["_aws"]["Timestamp"]
    assert abs(timestamp - time.time() * 1000) < 5000


def test_a_dimension_without_a_value_is_said_once(events, caplog):
    agent = make_agent(hooks=[TokenUsageHook(emitter=events, dimensions=[["Stage", "Model"]])])
    agent("one")
    agent("two")
    assert [event["Stage"] for event in events] == ["unknown", "unknown"]
    (record,) = caplog.records
    assert "'Stage'" in record.getMessage()
    assert "'unknown'" in record.getMessage()
