"""What the constructor takes and keeps, and what it and the builder refuse, by the name of the parameter."""

import asyncio
import functools
from collections import Counter
from unittest.mock import AsyncMock, MagicMock

import pytest

from helpers import Mute, make_agent
from strands_token_telemetry import TokenUsageHook, build_emf_payload, default_emitter

DEFAULTS = {"namespace": "Strands/AgentTokenUsage", "dimensions": [["Model"]], "dimension_values": {}}
DEFAULTS |= {"dimension_resolver": None, "extra_properties": None, "property_resolver": None}
DEFAULTS |= {"emitter": default_emitter}
GIVEN = {"namespace": "Team/Tokens", "dimensions": [["Stage", "Model"], ["Stage"], []]}
GIVEN |= {"dimension_values": {"Stage": "prod"}, "extra_properties": {"tags": ["a"]}}
GIVEN |= {"dimension_resolver": lambda event: {}, "property_resolver": lambda event: {}, "emitter": print}


@pytest.mark.parametrize(
    ("arguments", "kept"),
    [
        pytest.param({}, DEFAULTS, id="nothing given"),
        pytest.param(dict.fromkeys(DEFAULTS), DEFAULTS, id="None given"),
        pytest.param(GIVEN, GIVEN, id="all given"),
    ],
)
def test_the_configuration_can_be_read_back(arguments, kept):
    hook = TokenUsageHook(**arguments)
    assert {name: getattr(hook, name) for name in DEFAULTS} == kept


def test_a_later_change_by_the_caller_changes_nothing(events):
    sets, values, fields = [["Stage"]], {"Stage": "prod"}, {"tags": ["a"], "by": Counter("a")}
    hook = TokenUsageHook(dimensions=sets, dimension_values=values, extra_properties=fields, emitter=events)
    sets[0].append("Other")
    sets.append(["Third"])
    values["Stage"] = fields["by"]["b"] = fields["more"] = 1
    fields["tags"].append("b")
    make_agent(hooks=[hook])("hello")
    event = events[0]
    assert event["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [["Stage"]]
    assert (event["Stage"], event["tags"], event["by"], "more" in event) == ("prod", ["a"], {"a": 1}, False)


def test_a_falsy_callable_is_a_callable():
    class Collector(list):
        __call__ = list.append

    collector = Collector()
    make_agent(hooks=[TokenUsageHook(emitter=collector)])("hello")
    assert len(collector) == 1


class AsyncEmitter:
    async def __call__(self, payload):
        pass


async def async_generator_function(payload):
    yield


# For each: the parameter, what came, the error, and what the message says beside the name of the parameter.
BY_BOTH = [
    ("namespace", "", ValueError, "got ''"),
    ("namespace", Mute(), TypeError, "Mute"),
    ("namespace", 10**5000, TypeError, "int object at"),
    ("namespace", "  ", ValueError, "blank"),
    ("namespace", "x" * 256, ValueError, "255"),
    ("namespace", ":Team", ValueError, "start with ':'"),
    ("namespace", "AWS/Lambda", ValueError, "got 'AWS/Lambda'"),
    ("namespace", "Zoë", ValueError, "letters, digits"),
    ("namespace", "Tokens (prod)", ValueError, "got 'Tokens (prod)'"),
    ("namespace", "Team\n", ValueError, "letters, digits"),
    ("dimensions", "Model", TypeError, "write [['Model']]"),
    ("dimensions", ["Model", "Stage"], TypeError, "write [['Model', 'Stage']]"),
    ("dimensions", ["Model", ["Stage"]], TypeError, "got ['Model', ['Stage']]; write [['Model']]"),
    ("dimensions", {"Model": "x"}, TypeError, "write [['Model']]"),
    ("dimensions", 7, TypeError, "got 7; write [['Model']]"),
    ("dimensions", [[["Model"]]], TypeError, "got [[['Model']]]; write [['Model']]"),
    ("dimensions", [[Mute()]], TypeError, "Mute"),
    ("dimensions", [], ValueError, "write [[]] for no dimensions"),
    ("dimensions", [[f"Key{n}" for n in range(31)]], ValueError, "at most 30 names"),
    ("dimensions", [[f"{n}-{m}" for m in range(26)] for n in range(4)], ValueError, "got 26 and 104"),
    ("dimensions", [[""]], ValueError, "got ''"),
    ("dimensions", [[" "]], ValueError, "got ' '"),
    ("dimensions", [[":Model"]], ValueError, "got ':Model'"),
    ("dimensions", [["Modèle"]], ValueError, "printable ASCII"),
    ("dimensions", [["M" * 251]], ValueError, "250"),
    ("dimensions", [["Model"], ["inputTokens"]], ValueError, "got 'inputTokens'"),
    ("dimensions", [["_aws"]], ValueError, "got '_aws'"),
    ("dimensions", [["Model", "Model"]], ValueError, "twice"),
    ("dimensions", [["Model", "Stage"], ["Stage", "Model"]], ValueError, "twice"),
    ("dimension_values", [("Model", "x")], TypeError, "a dict"),
    ("dimension_values", {7: "x"}, TypeError, "got {7: 'x'}"),
    ("dimension_values", {"_aws": "x"}, ValueError, "write another name"),
    ("extra_properties", [], TypeError, "got []"),
    ("extra_properties", {"_aws": {}}, ValueError, "write another name"),
]
NO_PLAIN_FUNCTIONS = [{"Model": "x"}, "stdout", Mute(), AsyncEmitter(), AsyncMock(), asyncio.sleep]
NO_PLAIN_FUNCTIONS += [functools.partial(asyncio.sleep), lambda payload: (yield), async_generator_function]
BY_THE_HOOK = [
    (parameter, value, TypeError, "not async and no generator")
    for parameter in ("dimension_resolver", "property_resolver", "emitter")
    for value in NO_PLAIN_FUNCTIONS
]
BY_THE_BUILDER = [
    ("usage", 7, TypeError, "write, for example, {'inputTokens': 12}"),
    ("usage", {"inputTokens": "12"}, TypeError, "got '12' for 'inputTokens'"),
    ("usage", {"inputTokens": True}, ValueError, "got True"),
    ("usage", {"inputTokens": float("nan")}, ValueError, "finite"),
    ("usage", {"inputTokens": 2**361}, ValueError, "finite"),
    ("usage", {}, ValueError, "got 0"),
    ("usage", {f"counter{n}": n for n in range(101)}, ValueError, "got 101"),
    ("usage", {"": 1}, ValueError, "for ''"),
    ("usage", {"_aws": 1}, ValueError, "for '_aws'"),
    ("usage", {"é": 1}, ValueError, "printable ASCII"),
    ("dimension_values", None, TypeError, "got None"),
    ("timestamp_ms", 1.5, TypeError, "got 1.5; write int(time.time() * 1000)"),
    ("timestamp_ms", True, TypeError, "got True"),
]


def build(**changes):
    arguments = {"usage": {"inputTokens": 1}, "namespace": "Team/Tokens", "dimensions": [[]]}
    return build_emf_payload(**arguments | {"dimension_values": {}} | changes)


CASES = [(TokenUsageHook, *case) for case in BY_BOTH + BY_THE_HOOK]
CASES += [(build, *case) for case in BY_BOTH + BY_THE_BUILDER]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0].__name__}, {case[1]}: {case[-1]}")
def test_what_gives_no_valid_event_is_refused_by_the_name_of_its_parameter(case):
    make, parameter, value, error, says = case
    with pytest.raises(error, match=rf"\A{parameter} .*; (write|pass)\b") as refusal:
        make(**{parameter: value})
    assert says in str(refusal.value)


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        pytest.param("namespace", "x" * 255, id="the longest namespace"),
        pytest.param("namespace", "My Team/Tokens.v1#a:b-c_d", id="each kind of character"),
        pytest.param("dimensions", [[f"Key{n}" for n in range(30)]], id="the largest set"),
        pytest.param("dimensions", [[f"{n}-{m}" for m in range(25)] for n in range(4)], id="most names"),
        pytest.param("dimensions", [["M" * 250]], id="the longest name"),
        pytest.param("dimensions", [[]], id="no dimensions"),
        pytest.param("dimensions", (("Model",), ("Model", "Stage")), id="tuples"),
        pytest.param("dimension_values", {"Model": 7, "Undeclared": "x"}, id="number, undeclared name"),
        pytest.param("extra_properties", {}, id="no properties"),
        pytest.param("emitter", MagicMock(), id="mock"),
        pytest.param("emitter", functools.partial(print, end=""), id="partial"),
        pytest.param("emitter", [].append, id="method"),
    ],
)
def test_what_is_at_the_limit_is_taken(events, parameter, value):
    make_agent(hooks=[TokenUsageHook(**{"emitter": events, parameter: value})])("hello")
    assert events or parameter == "emitter"


@pytest.mark.parametrize("function", [build_emf_payload, TokenUsageHook])
def test_all_parameters_are_keywords(function):
    with pytest.raises(TypeError, match=r"positional arguments? but"):
        function("Team/Tokens")
