"""What the hook and the builder accept, and what they refuse with a message that says what to write."""

import functools
from unittest.mock import MagicMock

import pytest

from helpers import make_agent
from strands_token_telemetry import TokenUsageHook, build_emf_payload, default_emitter


class Webhook:
    def __init__(self, url):
        self.url = url

    def __call__(self, event):
        pass


class AsyncEmitter:
    async def __call__(self, event):
        pass


async def post(event):
    pass


def resolve(event):
    return {}


def build(**changes):
    arguments = {"usage": {"inputTokens": 1}, "namespace": "Team/Tokens", "dimensions": [[]]}
    return build_emf_payload(**arguments | {"dimension_values": {}} | changes)


# Each row: an argument, and two parts of the message that refuses it: what came, and what to write.

REFUSED_BY_BOTH = [
    ({"namespace": 7}, "got 7", "write, for example, 'My/Tokens'"),
    ({"namespace": "  "}, "not blank", "write, for example, 'My/Tokens'"),
    ({"namespace": ""}, "1 to 255", "write, for example, 'My/Tokens'"),
    ({"namespace": "x" * 256}, "1 to 255", "write, for example, 'My/Tokens'"),
    ({"namespace": ":Team"}, "not start with ':'", "write, for example, 'My/Tokens'"),
    ({"namespace": "AWS/Lambda"}, "got 'AWS/Lambda'", "write, for example, 'My/Tokens'"),
    ({"namespace": "Zoë"}, "printable ASCII", "write, for example, 'My/Tokens'"),
    ({"namespace": "Team\n"}, "got 'Team\\n'", "write, for example, 'My/Tokens'"),
    ({"dimensions": "Model"}, "got 'Model'", "write [['Model']]"),
    ({"dimensions": ["Model"]}, "got ['Model']", "write [['Model']]"),
    (
        {"dimensions": ["Model", "AgentName"]},
        "write [['Model', 'AgentName']] for a metric of each combination",
        "or [['Model'], ['AgentName']] for one of each",
    ),
    ({"dimensions": ["Model", ["Stage"]]}, "got ['Model', ['Stage']]", "write, for example, [['Model']]"),
    ({"dimensions": [[7]]}, "got [[7]]", "write, for example, [['Model']]"),
    ({"dimensions": []}, "at least one set", "write [[]] for no dimensions"),
    ({"dimensions": [[f"Key{n}" for n in range(31)]]}, "got 31", "pass the others as extra_properties"),
    ({"dimensions": [[":Model"]]}, "got ':Model'", "write another name"),
    ({"dimensions": [["M" * 251]]}, "1 to 250", "write another name"),
    ({"dimensions": [["Model"], ["inputTokens"]]}, "got 'inputTokens'", "write another name"),
    ({"dimensions": [["_aws"]]}, "got '_aws'", "write another name"),
    ({"dimensions": [["Model", "Model"]]}, "must not repeat", "list each once"),
    ({"dimensions": [["Model", "Stage"], ["Stage", "Model"]]}, "must not repeat", "list each once"),
    ({"dimension_values": {7: "x"}}, "got {7: 'x'}", "write, for example, {'"),
    ({"dimension_values": {"_aws": "x"}}, "must not contain '_aws'", "write another name"),
    ({"extra_properties": []}, "got []", "write, for example, {'"),
]
REFUSED_BY_THE_HOOK = [
    ({"dimension_values": resolve}, "got <function", "as dimension_resolver"),
    ({"extra_properties": resolve}, "got <function", "as property_resolver"),
    ({"property_resolver": post}, "not async", "write a def"),
    ({"emitter": "stdout"}, "got 'stdout'", "write a def"),
    ({"emitter": post}, "not async", "write a def"),
    ({"emitter": AsyncEmitter()}, "not async", "write a def"),
    ({"emitter": Webhook}, "got the class Webhook", "write Webhook(...)"),
]
REFUSED_BY_THE_BUILDER = [
    ({"usage": {"inputTokens": True}}, "got True", "write, for example"),
    ({"usage": {"inputTokens": float("nan")}}, "finite", "write, for example"),
    ({"usage": {"inputTokens": 2**361}}, "at most 2**360", "write, for example"),
    ({"usage": {}}, "got 0", "write, for example"),
    ({"usage": {f"counter{n}": n for n in range(101)}}, "got 101", "write, for example"),
    ({"usage": {"x" * 256: 1}}, "1 to 255", "write, for example"),
    ({"usage": resolve}, "got <function", "write, for example, {'inputTokens': 12}"),
    ({"dimensions": [["calls"]], "usage": {"calls": 3}}, "got 'calls'", "write another name"),
    ({"timestamp_ms": 1.5}, "got 1.5", "write int(time.time() * 1000)"),
    ({"timestamp_ms": True}, "got True", "write int(time.time() * 1000)"),
]


def assert_refused(make, argument, came, advice):
    with pytest.raises((TypeError, ValueError)) as refusal:
        make(**argument)
    message = str(refusal.value)
    assert message.startswith(f"{next(iter(argument))} must ")
    assert came in message
    assert advice in message


@pytest.mark.parametrize(("argument", "came", "advice"), REFUSED_BY_BOTH + REFUSED_BY_THE_HOOK)
def test_the_hook_refuses(argument, came, advice):
    assert_refused(TokenUsageHook, argument, came, advice)


@pytest.mark.parametrize(("argument", "came", "advice"), REFUSED_BY_BOTH + REFUSED_BY_THE_BUILDER)
def test_the_builder_refuses(argument, came, advice):
    assert_refused(build, argument, came, advice)


@pytest.mark.parametrize(
    ("argument", "error"),
    [({"namespace": 7}, TypeError), ({"namespace": ""}, ValueError), ({"dimensions": "Model"}, TypeError)],
)
def test_a_wrong_type_is_a_type_error_and_a_wrong_value_a_value_error(argument, error):
    with pytest.raises(error):
        TokenUsageHook(**argument)


@pytest.mark.parametrize(
    "argument",
    [
        pytest.param({"namespace": "x" * 255}, id="the longest namespace"),
        pytest.param({"namespace": "Tokens (prod), Acme & Co, Team@x"}, id="any printable ASCII"),
        pytest.param({"dimensions": [[f"Key{n}" for n in range(30)]]}, id="the largest set"),
        pytest.param({"dimensions": [["M" * 250]]}, id="the longest name"),
        pytest.param({"dimensions": (("Model",), ("Model", "Stage"))}, id="tuples"),
        pytest.param({"dimension_values": {"Model": 7, "Undeclared": "x"}}, id="a number"),
    ],
)
def test_what_is_at_the_limit_gives_a_valid_event(events, argument):
    make_agent(hooks=[TokenUsageHook(emitter=events, **argument)])("hello")
    assert events.inputs == [10]


@pytest.mark.parametrize("emitter", [MagicMock(), functools.partial(print, end=""), Webhook("https://a.b")])
def test_anything_that_can_be_called_is_an_emitter(emitter):
    assert TokenUsageHook(emitter=emitter).emitter is emitter


# What the hook keeps.

DEFAULTS = {
    "namespace": "Strands/AgentTokenUsage",
    "dimensions": [["Model"]],
    "dimension_values": {},
    "dimension_resolver": None,
    "extra_properties": None,
    "property_resolver": None,
    "emitter": default_emitter,
}
GIVEN = {
    "namespace": "Team/Tokens",
    "dimensions": [["Stage", "Model"], ["Stage"], []],
    "dimension_values": {"Stage": "prod"},
    "dimension_resolver": resolve,
    "extra_properties": {"tags": ["a"]},
    "property_resolver": resolve,
    "emitter": print,
}


@pytest.mark.parametrize(
    ("given", "kept"), [({}, DEFAULTS), (dict.fromkeys(DEFAULTS), DEFAULTS), (GIVEN, GIVEN)]
)
def test_the_configuration_can_be_read_back(given, kept):
    assert kept.items() <= vars(TokenUsageHook(**given)).items()


def test_a_later_change_by_the_caller_changes_nothing():
    sets, values, fields = [["Stage"]], {"Stage": "prod"}, {"team": "a"}
    hook = TokenUsageHook(dimensions=sets, dimension_values=values, extra_properties=fields)
    sets[0].append("Other")
    values["Stage"] = fields["team"] = "changed"
    assert (hook.dimensions, hook.dimension_values) == ([["Stage"]], {"Stage": "prod"})
    assert hook.extra_properties == {"team": "a"}
