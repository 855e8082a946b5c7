"""Where the values of dimensions and the properties of an event come from, and that none can spoil it."""

import asyncio
import dataclasses
import datetime as dt
import enum
import functools
import json
import re
import time
from types import SimpleNamespace

import pytest

from helpers import Colour, Mute, MuteText, ScriptedModel, Stage, make_agent, says, since
from strands_token_telemetry import TokenUsageHook


def event_of(events, agent=None, **configuration):
    """Return the event of one call of an agent with a hook that is configured so."""
    make_agent(hooks=[TokenUsageHook(emitter=events, **configuration)], **(agent or {}))("hello")
    return events[-1]


def test_the_model_and_the_name_of_the_agent_are_found(events):
    agent = {"model_id": "anthropic.claude-sonnet-4", "name": "planner"}
    event = event_of(events, agent, dimensions=[["Model", "AgentName"]])
    assert (event["Model"], event["AgentName"]) == ("anthropic.claude-sonnet-4", "planner")


def test_a_sagemaker_model_is_known_by_its_endpoint(events, monkeypatch):
    monkeypatch.setattr(ScriptedModel, "get_config", lambda self: {"endpoint_name": "my-endpoint"})
    assert event_of(events)["Model"] == "my-endpoint"


@pytest.mark.parametrize("config", [None, {}, {"model_id": None}, {"model_id": 7}, RuntimeError("no config")])
def test_a_model_that_cannot_be_found_is_unknown_and_said_once(events, caplog, config):
    def get_config():
        if isinstance(config, Exception):
            raise config
        return config

    agent = SimpleNamespace(model=SimpleNamespace(get_config=get_config))
    for _ in range(2):
        metrics = SimpleNamespace(accumulated_usage={"inputTokens": 1})
        event = SimpleNamespace(agent=agent, result=SimpleNamespace(metrics=metrics))
        TokenUsageHook(emitter=events)._on_after_invocation(event)
    assert [event["Model"] for event in events] == ["unknown", "unknown"]
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "dimension 'Model' has no value" in record.getMessage()


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
    hook = TokenUsageHook(emitter=events, property_resolver=lambda event: event.invocation_state["session"])
    agent = make_agent(says(tokens=(1, 1)), says(tokens=(2, 1)), hooks=[hook])
    for session in ("s-1", "s-2"):
        agent("hello", invocation_state={"session": {"SessionId": session}})
    assert [(event["SessionId"], event["inputTokens"]) for event in events] == [("s-1", 1), ("s-2", 2)]


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


def test_the_metadata_has_the_sets_as_given_and_the_time(events):
    sets = [["Model", "Stage"], ["Stage"], []]
    event = event_of(events, dimensions=sets, dimension_values={"Stage": "prod"})
    assert event["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == sets
    assert abs(event["_aws"]["Timestamp"] - time.time() * 1000) < 5000


def test_an_emitter_that_changes_its_event_changes_no_other(events):
    def spoil(payload):
        events(payload)
        payload["_aws"]["CloudWatchMetrics"][0]["Dimensions"][0].append("Spoilt")
        payload["tags"].append("spoilt")

    agent = make_agent(hooks=[TokenUsageHook(emitter=spoil, extra_properties={"tags": ["a"]})])
    agent("one")
    agent("two")
    assert [(event["tags"], "Spoilt" in event) for event in events] == [(["a"], False), (["a"], False)]


# Any value as a property: the event is plain JSON data, and what is healthy stays as it is.


class Proxy:
    """Stands for an object while it has one, as werkzeug's and wrapt's proxies do."""

    def __init__(self, *target):
        self.target = target

    @property
    def __class__(self):
        return type(self.target[0])

    def __str__(self):
        return str(self.target[0])


class Broken(dict):
    def __iter__(self):
        raise RuntimeError("no iteration")

    keys = items = __iter__


Level = enum.IntEnum("Level", {"HIGH": 3})
User = dataclasses.make_dataclass("User", ["name"])

CIRCULAR = {"name": "loop"}
CIRCULAR["self"] = [CIRCULAR]
DEEP = functools.reduce(lambda inner, _: [inner], range(3_000), "bottom")
HEALTHY = {"text": "é 🦜", "whole": 1.0, "none": None, "big": 10**30, "deep": {"a": [1.5, True, False]}}

ODD = [
    pytest.param(Colour.RED, "Colour.RED", id="Enum"),
    pytest.param(Stage.PROD, "prod", id="Enum of text"),
    pytest.param(Level.HIGH, 3, id="Enum of numbers"),
    pytest.param(User("Ada"), "User(name='Ada')", id="dataclass"),
    pytest.param(dt.date(2026, 1, 2), "2026-01-02", id="date"),
    pytest.param(b"bytes", "b'bytes'", id="bytes"),
    pytest.param({7}, [7], id="set"),
    pytest.param((1, (2,)), [1, [2]], id="tuple"),
    pytest.param(float("nan"), "NaN", id="NaN"),
    pytest.param([1, float("-inf"), {"deep": {3}}], [1, "-Infinity", {"deep": [3]}], id="infinity in a list"),
    pytest.param({None: 1, 7: 2, True: 3}, {"null": 1, "7": 2, "true": 3}, id="keys that JSON knows"),
    pytest.param({("a", 1): 1}, "{('a', 1): 1}", id="keys that JSON does not know"),
    pytest.param("lone \ud800", "lone ?", id="lone surrogate"),
    pytest.param({"\udfff": ["🦜\ud83e"]}, {"?": ["🦜?"]}, id="lone surrogates in a dict"),
    pytest.param(MuteText("hostile"), "hostile", id="hostile text"),
    pytest.param(["fine", ValueError("an error")], ["fine", "an error"], id="exception"),
    pytest.param(CIRCULAR, "{'name': 'loop', 'self': [{...}]}", id="circular"),
    pytest.param([Mute()], re.compile(r"\[.*Mute object at"), id="object without a text"),
    pytest.param([Proxy("session-1"), Proxy({"a": 1})], ["session-1", "{'a': 1}"], id="proxies"),
    pytest.param(Proxy(), re.compile("Proxy object at"), id="a proxy out of its context"),
    pytest.param(Broken(a=1), re.compile("a"), id="dict that cannot be iterated"),
    pytest.param(10**5000, re.compile("int object at"), id="number with 5,000 digits"),
    pytest.param(DEEP, re.compile("list object at"), id="nested 3,000 deep"),
]


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(lambda fields: {"extra_properties": fields}, id="from the start"),
        pytest.param(lambda fields: {"property_resolver": lambda event: fields}, id="per call"),
        pytest.param(
            lambda fields: {"dimension_values": fields, "extra_properties": {"none": None}},
            id="undeclared dimensions",
        ),
    ],
)
@pytest.mark.parametrize(("odd", "readable"), ODD)
def test_a_property_of_any_kind_is_readable(events, odd, readable, given):
    event = event_of(events, **given({**HEALTHY, "odd": odd}))
    assert repr({name: event[name] for name in HEALTHY}) == repr(HEALTHY)  # 1 is not True
    assert event["inputTokens"] == 10
    if isinstance(readable, re.Pattern):
        assert readable.search(json.dumps(event["odd"]))
    else:
        assert event["odd"] == readable


@pytest.mark.parametrize("source", ["extra_properties", "property_resolver"])
def test_the_name_of_a_property_may_be_any_text(events, source):
    names = {"\ud800": 1, Stage.PROD: {Stage.PROD: 2}}
    event = event_of(events, **{source: names if source == "extra_properties" else lambda event: names})
    assert (event["?"], event["prod"]) == (1, {"prod": 2})


# An event is at most 256 KB. The counts and the dimensions are in it, whatever the properties are.


def note(event, name):
    return re.fullmatch(r"\(\d+ bytes left out\)", str(event[name]))


def test_a_text_of_30_kb_stays_whole_and_one_of_400_kb_is_replaced_by_a_note(events):
    given = {"page": "x" * 30_000, "all pages": "é" * 70_000, "SessionId": "s-1"}
    event = event_of(events, extra_properties=given)
    assert event == {**event, **given, "all pages": event["all pages"]}
    assert note(event, "all pages")


@pytest.mark.parametrize(
    "properties",
    [
        pytest.param({f"{n:03}": "x" * 900 for n in range(400)}, id="400 texts"),
        pytest.param({f"{n:03}": ["x" * 900] for n in range(400)}, id="400 lists"),
        pytest.param({"parrots": "🦜" * 30_000}, id="30,000 emoji"),
        pytest.param({"pages": ["é" * 40_000, "x"], "SessionId": "s-1"}, id="a list"),
    ],
)
def test_an_event_that_would_be_too_large_leaves_out_the_largest(events, properties):
    values = {f"dimension {n}": '"' * 1024 for n in range(25)}
    event = event_of(
        events, dimensions=[[*values]], dimension_values=values, property_resolver=lambda event: properties
    )
    assert values.items() <= event.items()
    assert event["inputTokens"] == 10
    left_out = {name for name, value in properties.items() if event[name] != value}
    assert left_out
    assert all(note(event, name) for name in left_out)
    if len(properties) == 400:
        assert len(json.dumps(event)) > 256 * 1024 - 1000  # no more than had to be left out


@pytest.mark.parametrize("value", [Level.HIGH, Stage.PROD, ("a", "b"), Proxy("gold")], ids=str)
def test_a_dimension_has_the_same_value_whatever_gives_it(events, value):
    fixed = event_of(events, dimension_values={"Model": value})
    resolved = event_of(events, dimension_resolver=lambda event: {"Model": value})
    assert fixed["Model"] == resolved["Model"]
