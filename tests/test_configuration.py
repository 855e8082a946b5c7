"""What the constructor takes, keeps and refuses."""

import functools
from unittest.mock import AsyncMock, MagicMock

import pytest

from scripted import make_agent
from strands_token_telemetry import TokenUsageHook, default_emitter
from strands_token_telemetry.emitters import encode


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


def test_all_parameters_are_keywords():
    with pytest.raises(TypeError, match="positional"):
        TokenUsageHook("Team/Tokens")


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


class UnprintableText(str):
    __repr__ = Unprintable.__repr__


REFUSED = [
    ("namespace", 7, TypeError),
    ("namespace", b"Team", TypeError),
    ("namespace", Unprintable(), TypeError),
    ("namespace", "", ValueError),
    ("namespace", "  ", ValueError),
    ("namespace", "x" * 256, ValueError),
    ("namespace", ":Team", ValueError),
    ("namespace", "AWS/Lambda", ValueError),
    ("namespace", "Zoë", ValueError),
    ("namespace", "a\nb", ValueError),
    ("dimensions", "Model", TypeError),
    ("dimensions", ["Model"], TypeError),
    ("dimensions", [["Model"], "Stage"], TypeError),
    ("dimensions", {"Model": "x"}, TypeError),
    ("dimensions", 7, TypeError),
    ("dimensions", [[7]], TypeError),
    ("dimensions", [[["Model"]]], TypeError),
    ("dimensions", [[Unprintable()]], TypeError),
    ("dimensions", [UnprintableText("Model")], TypeError),
    ("dimensions", [], ValueError),
    ("dimensions", [[f"Key{n}" for n in range(31)]], ValueError),
    ("dimensions", [[""]], ValueError),
    ("dimensions", [[" "]], ValueError),
    ("dimensions", [[":Model"]], ValueError),
    ("dimensions", [["Modèle"]], ValueError),
    ("dimensions", [["M" * 251]], ValueError),
    ("dimensions", [["Model"], ["inputTokens"]], ValueError),
    ("dimensions", [["cacheReadInputTokens"]], ValueError),
    ("dimensions", [["_aws"]], ValueError),
    ("dimensions", [[f"Key{n}-{m}" for m in range(30)] for n in range(9)], ValueError),
    ("dimensions", [[f"{n:0250}", "Model"] for n in range(1000)], ValueError),
    ("dimensions", [["Model", "Model"]], ValueError),
    ("dimensions", [["Model", "Stage"], ["Stage", "Model"]], ValueError),
    ("dimension_values", [("Model", "x")], TypeError),
    ("dimension_values", {7: "x"}, TypeError),
    ("dimension_values", {"_aws": "x"}, ValueError),
    ("extra_properties", "x", TypeError),
    ("extra_properties", {None: "x"}, TypeError),
    ("extra_properties", {"_aws": {}}, ValueError),
    pytest.param("extra_properties", 10**5000, TypeError, id="a huge integer"),
    ("dimension_resolver", {"Model": "x"}, TypeError),
    ("dimension_resolver", async_function, TypeError),
    ("property_resolver", {"SessionId": "x"}, TypeError),
    ("property_resolver", async_function, TypeError),
    ("emitter", "stdout", TypeError),
    ("emitter", Unprintable(), TypeError),
    ("emitter", async_function, TypeError),
    ("emitter", functools.partial(async_function), TypeError),
    ("emitter", AsyncEmitter(), TypeError),
    ("emitter", AsyncMock(), TypeError),
    ("emitter", generator_function, TypeError),
    ("emitter", async_generator_function, TypeError),
]


@pytest.mark.parametrize(("parameter", "value", "error"), REFUSED)
def test_what_cannot_give_a_valid_event_is_refused_with_the_name_of_the_parameter(parameter, value, error):
    with pytest.raises(error, match=rf"\A{parameter} .*; (write|pass)\b"):
        TokenUsageHook(**{parameter: value})


def test_a_value_without_a_repr_is_shown_by_its_type():
    with pytest.raises(TypeError, match=r"got <.*Unprintable (instance|object) at"):
        TokenUsageHook(emitter=Unprintable())
    with pytest.raises(TypeError, match="got <function async_function at"):
        TokenUsageHook(emitter=async_function)
    with pytest.raises(TypeError, match="got <int object at"):
        TokenUsageHook(extra_properties=10**5000)


def test_the_common_mistake_with_dimensions_gets_its_cure():
    with pytest.raises(TypeError, match=r"write \[\['Model', 'Stage'\]\]"):
        TokenUsageHook(dimensions=["Model", "Stage"])


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("namespace", "x" * 255),
        ("namespace", "My Team/Tokens.v1#a:b"),
        ("dimensions", [[f"Key{n}" for n in range(30)]]),
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
def test_what_is_at_the_limit_is_taken(parameter, value):
    TokenUsageHook(**{parameter: value})


def test_as_many_dimensions_as_are_taken_fit_into_an_event(events):
    sets = [[f"Key{n}-{m}" for m in range(30)] for n in range(5)]
    values = {key: '"' * 1024 for keys in sets for key in keys}
    with pytest.raises(ValueError, match="dimensions must leave an event under 256 KB"):
        TokenUsageHook(dimensions=sets)
    sets.pop()
    make_agent(hooks=[TokenUsageHook(dimensions=sets, dimension_values=values, emitter=events)])("hello")
    assert len(encode(events[0])) > 240_000


def test_an_emitter_that_returns_a_coroutine_is_logged_with_its_event(caplog):
    make_agent(hooks=[TokenUsageHook(emitter=lambda payload: async_function(payload))])("hello")
    (record,) = caplog.records
    assert "emitter returned a coroutine" in str(record.exc_info[1])
    assert '"inputTokens":10' in record.getMessage()


def test_a_mock_registry_gets_exactly_one_callback_for_the_event_after_an_invocation():
    from strands.hooks import AfterInvocationEvent

    hook, registry = TokenUsageHook(), MagicMock()
    hook.register_hooks(registry, future="argument")
    registry.add_callback.assert_called_once_with(AfterInvocationEvent, hook._on_after_invocation)


def test_a_registry_that_cannot_be_remembered_is_no_problem():
    class Registry:
        __slots__ = ("callbacks",)
        __hash__ = None

        def add_callback(self, event_type, callback):
            self.callbacks = [callback]

    registry = Registry()
    hook = TokenUsageHook()
    hook.register_hooks(registry)
    assert registry.callbacks == [hook._on_after_invocation]
