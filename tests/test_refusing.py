"""What the constructor takes and keeps, and what it and the builder refuse, by the name of the parameter."""

import functools
from unittest.mock import AsyncMock, MagicMock

import pytest

from scripted import make_agent
from strands_token_telemetry import TokenUsageHook, build_emf_payload, default_emitter


def test_the_defaults():
    hook = TokenUsageHook()
    assert hook.namespace == "Strands/AgentTokenUsage"
    assert hook.dimensions == [["Model"]]
    assert hook.dimension_values == {}
    assert hook.dimension_resolver is None
    assert hook.extra_properties is None
    assert hook.property_resolver is None
    assert hook.emitter is default_emitter


def test_none_means_the_default():
    names = ["namespace", "dimensions", "dimension_values", "dimension_resolver"]
    names += ["extra_properties", "property_resolver", "emitter"]
    hook = TokenUsageHook(**dict.fromkeys(names))
    assert {name: getattr(hook, name) for name in names} == {
        name: getattr(TokenUsageHook(), name) for name in names
    }


def test_the_configuration_can_be_read_back():
    configuration = {
        "namespace": "Team/Tokens",
        "dimensions": [["Stage", "Model"], ["Stage"], []],
        "dimension_values": {"Stage": "prod"},
        "dimension_resolver": lambda event: {},
        "extra_properties": {"tags": ["a"]},
        "property_resolver": lambda event: {},
        "emitter": lambda payload: None,
    }
    hook = TokenUsageHook(**configuration)
    assert {name: getattr(hook, name) for name in configuration} == configuration


def test_a_later_change_by_the_caller_changes_nothing(events):
    dimensions, values, properties = [["Stage"]], {"Stage": "prod"}, {"tags": ["a"]}
    hook = TokenUsageHook(
        dimensions=dimensions, dimension_values=values, extra_properties=properties, emitter=events
    )
    dimensions[0].append("Other")
    dimensions.append(["Third"])
    values["Stage"] = "test"
    properties["tags"].append("b")
    properties["more"] = 1
    make_agent(hooks=[hook])("hello")
    (event,) = events
    assert event["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [["Stage"]]
    assert (event["Stage"], event["tags"], "more" in event) == ("prod", ["a"], False)


def test_a_falsy_callable_is_a_callable():
    class Collector(list):
        __call__ = list.append

    collector = Collector()
    make_agent(hooks=[TokenUsageHook(emitter=collector)])("hello")
    assert len(collector) == 1


class AsyncEmitter:
    async def __call__(self, payload):
        pass


async def async_function(payload):
    pass


def generator_function(payload):
    yield


async def async_generator_function(payload):
    yield


class Unprintable:
    def __repr__(self):
        raise RuntimeError("no repr")


# For each: the parameter, what came, the error, and what the message says beside the name of the parameter.
BY_BOTH = [
    ("namespace", 7, TypeError, "got 7"),
    ("namespace", b"Team", TypeError, "got b'Team'"),
    ("namespace", Unprintable(), TypeError, "Unprintable"),
    ("namespace", "", ValueError, "got ''"),
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
    ("dimensions", [[7]], TypeError, "got [[7]]"),
    ("dimensions", [[["Model"]]], TypeError, "got [[['Model']]]; write [['Model']]"),
    ("dimensions", [[Unprintable()]], TypeError, "Unprintable"),
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
    ("extra_properties", "x", TypeError, "a dict"),
    ("extra_properties", [], TypeError, "got []"),
    ("extra_properties", {None: "x"}, TypeError, "strings as keys"),
    ("extra_properties", {"_aws": {}}, ValueError, "write another name"),
]
BY_THE_HOOK = [
    (parameter, value, TypeError, "not async and no generator")
    for parameter in ("dimension_resolver", "property_resolver", "emitter")
    for value in (
        {"Model": "x"},
        "stdout",
        Unprintable(),
        async_function,
        functools.partial(async_function),
        AsyncEmitter(),
        AsyncMock(),
        generator_function,
        async_generator_function,
    )
]
BY_THE_BUILDER = [
    ("usage", 7, TypeError, "write, for example, {'inputTokens': 12}"),
    ("usage", [("inputTokens", 1)], TypeError, "a dict"),
    ("usage", {"inputTokens": "12"}, TypeError, "got '12' for 'inputTokens'"),
    ("usage", {"inputTokens": True}, ValueError, "got True"),
    ("usage", {"inputTokens": float("nan")}, ValueError, "finite"),
    ("usage", {"inputTokens": float("inf")}, ValueError, "finite"),
    ("usage", {"inputTokens": 2**361}, ValueError, "finite"),
    ("usage", {}, ValueError, "got 0"),
    ("usage", {f"counter{n}": n for n in range(101)}, ValueError, "got 101"),
    ("usage", {"": 1}, ValueError, "for ''"),
    ("usage", {"_aws": 1}, ValueError, "for '_aws'"),
    ("usage", {"é": 1}, ValueError, "printable ASCII"),
    ("usage", {1: 1}, TypeError, "strings as keys"),
    ("dimension_values", None, TypeError, "got None"),
    ("timestamp_ms", 1.5, TypeError, "got 1.5"),
    ("timestamp_ms", True, TypeError, "got True"),
    ("timestamp_ms", "now", TypeError, "write int(time.time() * 1000)"),
]


@pytest.mark.parametrize(("parameter", "value", "error", "says"), BY_BOTH + BY_THE_HOOK)
def test_the_hook_refuses_what_gives_no_valid_event(parameter, value, error, says):
    with pytest.raises(error, match=rf"\A{parameter} .*; (write|pass)\b") as refusal:
        TokenUsageHook(**{parameter: value})
    assert says in str(refusal.value)


@pytest.mark.parametrize(("parameter", "value", "error", "says"), BY_BOTH + BY_THE_BUILDER)
def test_the_builder_refuses_what_gives_no_valid_event(parameter, value, error, says):
    arguments = {
        "usage": {"inputTokens": 1},
        "namespace": "Team/Tokens",
        "dimensions": [["Model"]],
        "dimension_values": {},
    }
    with pytest.raises(error, match=rf"\A{parameter} .*; (write|pass)\b") as refusal:
        build_emf_payload(**{**arguments, parameter: value})
    assert says in str(refusal.value)


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("namespace", "x" * 255),
        ("namespace", "My Team/Tokens.v1#a:b-c_d"),
        ("dimensions", [[f"Key{n}" for n in range(30)]]),
        ("dimensions", [[f"{n}-{m}" for m in range(25)] for n in range(4)]),
        ("dimensions", [["M" * 250]]),
        ("dimensions", [[]]),
        ("dimensions", (("Model",), ("Model", "Stage"))),
        ("dimension_values", {"Model": 7, "Undeclared": "x"}),
        ("extra_properties", {}),
        ("emitter", MagicMock()),
        ("emitter", functools.partial(print, end="")),
        ("emitter", [].append),
    ],
)
def test_what_is_at_the_limit_is_taken(events, parameter, value):
    make_agent(hooks=[TokenUsageHook(**{"emitter": events, parameter: value})])("hello")
    assert events or parameter == "emitter"


@pytest.mark.parametrize("function", [build_emf_payload, TokenUsageHook])
def test_all_parameters_are_keywords(function):
    with pytest.raises(TypeError, match="positional"):
        function("Team/Tokens")
