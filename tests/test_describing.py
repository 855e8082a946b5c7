"""Where dimensions and properties come from, and that no value can spoil an event."""

import asyncio
import dataclasses
import datetime as dt
import json
import re

import pytest

from helpers import Colour, ScriptedModel, Stage, make_agent, since
from strands_token_telemetry import TokenUsageHook


def event_of(events, **configuration):
    """Return the event of one call of an agent whose hook has this configuration."""
    make_agent(hooks=[TokenUsageHook(emitter=events, **configuration)])("hello")
    return events[-1]


def test_the_model_and_the_name_of_the_agent_are_found(events):
    hook = TokenUsageHook(dimensions=[["Model", "AgentName"]], emitter=events)
    make_agent(model_id="anthropic.claude-sonnet-4", name="planner", hooks=[hook])("hello")
    assert (events[0]["Model"], events[0]["AgentName"]) == ("anthropic.claude-sonnet-4", "planner")


@pytest.mark.parametrize("other", [{}, {"model_id": None}])
def test_a_sagemaker_model_is_known_by_its_endpoint(events, monkeypatch, other):
    monkeypatch.setattr(ScriptedModel, "get_config", lambda self: {**other, "endpoint_name": "my-endpoint"})
    assert event_of(events)["Model"] == "my-endpoint"


def test_the_warning_about_a_misspelt_dimension_says_which_the_hook_knows(events, caplog):
    assert event_of(events, dimensions=[["model"]])["model"] == "unknown"
    assert "the hook itself knows only 'Model' and 'AgentName'" in caplog.text


def test_the_order_in_which_a_dimension_takes_its_value(events):
    event = event_of(
        events,
        dimensions=[["Model", "A", "B", "C", "D"]],
        dimension_resolver=lambda event: {"A": "resolver", "B": None},
        dimension_values={"A": "value", "B": "value"},
        extra_properties=dict.fromkeys(["Model", "A", "B", "C", "D"], "property"),
        property_resolver=lambda event: {"D": "per call", "B": "per call"},
    )
    expected = {"A": "resolver", "B": "value", "C": "property", "D": "per call", "Model": "property"}
    assert expected.items() <= event.items()


@since("1.24", "AfterInvocationEvent.invocation_state")
def test_a_shared_agent_gives_the_session_of_each_call(events):
    hook = TokenUsageHook(
        extra_properties={"Team": "a"},
        property_resolver=lambda event: event.invocation_state["session"],
        emitter=events,
    )
    agent = make_agent(hooks=[hook])
    for session in ({"SessionId": "s-1"}, {"SessionId": "s-2"}, {}):
        agent("hello", invocation_state={"session": session})
    assert [event.get("SessionId") for event in events] == ["s-1", "s-2", None]


def test_none_counts_as_missing_and_leaves_the_fixed_property(events):
    """A query would find a `null` with `ispresent`."""
    event = event_of(
        events,
        extra_properties={"Team": "a", "UserId": None},
        property_resolver=lambda event: {"Team": None, "SessionId": None, "trace": [None, {"id": None}]},
    )
    assert (event["Team"], event["trace"]) == ("a", [None, {"id": None}])
    assert not {"UserId", "SessionId"} & event.keys()


# Any value may be a property: the event is plain JSON data, and such data in it stays as it is.

User = dataclasses.make_dataclass("User", ["name"])

CIRCULAR = {"name": "loop"}
CIRCULAR["self"] = [CIRCULAR]
PLAIN = {"text": "é 🦜", "whole": 1.0, "big": 10**30, "deep": {"a": [1.5, True, None]}}

ODD = [
    pytest.param(Colour.RED, "Colour.RED", id="Enum"),
    pytest.param(Stage.PROD, "prod", id="Enum of text"),
    pytest.param(User("Ada"), "User(name='Ada')", id="dataclass"),
    pytest.param(dt.date(2026, 1, 2), "2026-01-02", id="date"),
    pytest.param({7}, [7], id="set"),
    pytest.param(frozenset({7}), [7], id="frozenset"),
    pytest.param((1, (2,)), [1, [2]], id="tuple"),
    pytest.param(float("nan"), "NaN", id="NaN"),
    pytest.param([1, float("-inf"), {"deep": {3}}], [1, "-Infinity", {"deep": [3]}], id="infinity in a list"),
    pytest.param({None: 1, 7: 2, True: 3}, {"null": 1, "7": 2, "true": 3}, id="keys that JSON knows"),
    pytest.param({("a", 1): 1}, "{('a', 1): 1}", id="keys that JSON does not know"),
    pytest.param("lone \ud800", "lone ?", id="lone surrogate"),
    pytest.param({"\udfff": ["🦜\ud83e"]}, {"?": ["🦜?"]}, id="lone surrogates in a dict"),
    pytest.param(["fine", ValueError("an error")], ["fine", "an error"], id="exception"),
    pytest.param(CIRCULAR, "{'name': 'loop', 'self': [{...}]}", id="circular"),
]


@pytest.mark.parametrize(("odd", "readable"), ODD)
def test_a_property_of_any_kind_is_readable(events, odd, readable):
    event = event_of(events, extra_properties={**PLAIN, "odd": odd})
    assert repr({name: event[name] for name in PLAIN}) == repr(PLAIN)  # 1 is not True
    assert event["inputTokens"] == 10
    assert event["odd"] == readable


def test_the_name_of_a_property_may_be_any_text(events):
    event = event_of(events, extra_properties={"\ud800": 1, Stage.PROD: {Stage.PROD: 2}})
    assert (event["?"], event["prod"]) == (1, {"prod": 2})


# An event is at most 256 KB. The counts and the dimensions are in it, whatever the properties are.


def is_a_note(value):
    return re.fullmatch(r"\(\d+ bytes left out\)", str(value))


def test_an_event_of_256_kb_stays_whole_and_one_of_a_byte_more_does_not(events):
    room = 256 * 1024 - 26 - len(json.dumps(event_of(events, extra_properties={"page": ""})))
    assert event_of(events, extra_properties={"page": "x" * room})["page"] == "x" * room
    assert is_a_note(event_of(events, extra_properties={"page": "x" * (room + 1)})["page"])


def test_the_largest_property_gives_way_first(events):
    event = event_of(events, extra_properties={"page": "x" * 30_000, "all pages": "é" * 70_000})
    assert event["page"] == "x" * 30_000
    assert is_a_note(event["all pages"])


def test_a_text_of_30_000_emoji_is_too_large(events):
    assert is_a_note(event_of(events, extra_properties={"parrots": "🦜" * 30_000})["parrots"])


def test_no_more_is_left_out_than_an_event_has_to_lose(events):
    properties = {f"{n:03}": "x" * 900 for n in range(400)}
    values = {f"dimension {n}": '"' * 1024 for n in range(25)}
    event = event_of(events, dimensions=[[*values]], dimension_values=values, extra_properties=properties)
    assert values.items() <= event.items()
    assert event["inputTokens"] == 10
    assert all(is_a_note(event[name]) for name, value in properties.items() if event[name] != value)
    assert len(json.dumps(event)) > 256 * 1024 - 1000


# Robustness: resolvers that fail, and models that cannot be found.


@pytest.mark.filterwarnings("ignore:coroutine 'sleep' was never awaited")
@pytest.mark.parametrize("parameter", ["dimension_resolver", "property_resolver"])
@pytest.mark.parametrize(
    "resolver",
    [
        pytest.param(lambda event: {}["session"], id="raises"),
        pytest.param(lambda event: None, id="None"),
        pytest.param(lambda event: "text", id="text"),
        pytest.param(lambda event: [("Model", "x")], id="list"),
        pytest.param(lambda event: {7: "x"}, id="key that is not a string"),
        pytest.param(lambda event: {"_aws": {}}, id="EMF's own name"),
        pytest.param(lambda event: asyncio.sleep(0), id="coroutine"),
    ],
)
def test_a_resolver_that_fails_is_logged_and_the_event_goes_out(events, caplog, parameter, resolver):
    event = event_of(events, **{parameter: resolver})
    assert (event["Model"], event["inputTokens"]) == ("scripted-1", 10)
    (record,) = caplog.records
    assert record.getMessage().startswith(f"{parameter} failed; ")
    why = str(record.exc_info[1])
    assert why == "'session'" or (parameter in why and ("write, for example, {}" in why or "_aws" in why))


@pytest.mark.parametrize("config", [None, {}, {"model_id": None}, {"model_id": 7}])
def test_a_model_that_cannot_be_found_is_unknown_with_one_warning(events, caplog, config):
    agent = make_agent(hooks=[TokenUsageHook(emitter=events)])
    agent.model.get_config = lambda: config
    agent("one")
    agent("two")
    assert [event["Model"] for event in events] == ["unknown", "unknown"]
    (record,) = caplog.records
    assert (record.levelname, record.exc_info) == ("WARNING", False)
    assert "dimension 'Model' has no value" in record.getMessage()
