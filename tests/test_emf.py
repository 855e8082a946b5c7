"""The builder: its rules as tables, and that it is pure."""

import copy
import enum
import functools
import re
import string
import time

import pytest

from emf_checker import extract, parse
from strands_token_telemetry import build_emf_payload
from strands_token_telemetry.emf import dimension_text
from strands_token_telemetry.emitters import encode

USAGE = {"inputTokens": 12, "outputTokens": 5, "totalTokens": 17}


def build(**changes):
    arguments = {
        "usage": USAGE,
        "namespace": "Team/Tokens",
        "dimensions": [["Model"]],
        "dimension_values": {"Model": "m"},
    }
    payload = build_emf_payload(**(arguments | changes))
    if "timestamp_ms" not in changes:
        extract(encode(payload))
    return payload


def test_the_event_is_the_one_that_the_specification_describes():
    payload = build(extra_properties={"SessionId": "s-1"}, timestamp_ms=1_700_000_000_000)
    assert payload == {
        "_aws": {
            "Timestamp": 1_700_000_000_000,
            "CloudWatchMetrics": [
                {
                    "Namespace": "Team/Tokens",
                    "Dimensions": [["Model"]],
                    "Metrics": [
                        {"Name": "inputTokens", "Unit": "Count"},
                        {"Name": "outputTokens", "Unit": "Count"},
                        {"Name": "totalTokens", "Unit": "Count"},
                    ],
                }
            ],
        },
        "Model": "m",
        "inputTokens": 12,
        "outputTokens": 5,
        "totalTokens": 17,
        "SessionId": "s-1",
    }
    assert next(iter(payload)) == "_aws"


def test_the_timestamp_is_now_in_milliseconds():
    before = time.time() * 1000
    assert before - 1 <= build()["_aws"]["Timestamp"] <= time.time() * 1000


def test_nothing_is_changed_and_no_container_is_shared():
    nested = {
        "list": [1, [2]],
        "dict": {"a": {"b": 1}},
        "tuple": ([1],),
        "set": {1},
        "bytes": bytearray(b"x"),
    }
    arguments = {
        "usage": dict(USAGE),
        "namespace": "Team/Tokens",
        "dimensions": [["Model"], []],
        "dimension_values": {"Model": "m", "Undeclared": ["x"]},
        "extra_properties": nested,
    }
    before = copy.deepcopy(arguments)
    payload = build(**arguments)
    assert {name: payload[name] for name in nested} == nested
    payload["list"][1].append(3)
    payload["dict"]["a"]["b"] = 2
    payload["tuple"][0].append(2)
    payload["set"].add(2)
    payload["bytes"].extend(b"y")
    payload["Undeclared"].append("y")
    payload["_aws"]["CloudWatchMetrics"][0]["Dimensions"][0].append("Changed")
    assert arguments == before


def test_a_circular_property_becomes_a_tree():
    loop = {"name": "loop"}
    loop["self"] = [loop]
    odd = build(extra_properties={"odd": loop})["odd"]
    assert odd == {"name": "loop", "self": ["(circular reference)"]}


def test_what_is_shared_but_not_circular_stays_whole():
    shared = [1]
    assert build(extra_properties={"twice": [shared, shared]})["twice"] == [[1], [1]]


def test_what_is_shared_over_and_over_is_cut_before_it_takes_for_ever():
    shared = functools.reduce(lambda inner, _: [inner, inner], range(60), "bottom")
    assert "nested too deeply" in encode(build(extra_properties={"shared": shared}))


def test_a_part_that_cannot_be_copied_does_not_keep_the_rest_from_it():
    class Broken(dict):
        def items(self):
            raise RuntimeError("no items")

    loop = [Broken()]
    loop += [loop, loop]
    odd = build(extra_properties={"odd": loop})["odd"]
    assert odd[1:] == ["(circular reference)"] * 2


def test_a_string_enum_may_name_dimensions_and_properties():
    class Name(str, enum.Enum):
        STAGE = "Stage"
        ODD = "odd"

    payload = build(
        dimensions=[[Name.STAGE]], dimension_values={Name.STAGE: "prod"}, extra_properties={Name.ODD: {1}}
    )
    assert parse(encode(payload))["Stage"] == "prod"
    assert parse(encode(payload))["odd"] == [1]


@pytest.mark.parametrize(("depth", "bottom"), [(100, "bottom"), (101, "(nested too deeply)")])
def test_a_property_is_cut_where_it_is_nested_more_than_a_hundred_deep(depth, bottom):
    deep = functools.reduce(lambda inner, _: [inner], range(depth), "bottom")
    deep = build(extra_properties={"deep": deep})["deep"]
    for _ in range(100):
        (deep,) = deep
    assert deep == bottom


def test_an_object_that_is_no_container_is_passed_as_it_is():
    thing = object()
    assert build(extra_properties={"thing": thing})["thing"] is thing


@pytest.mark.parametrize(
    ("dimension_values", "properties", "expected"),
    [
        ({"Model": "m"}, {}, "m"),
        ({"Model": "m"}, {"Model": "property"}, "m"),
        ({}, {"Model": "property"}, "property"),
        ({"Model": None}, {"Model": "property"}, "property"),
        ({}, {}, "unknown"),
        ({"Model": ""}, {}, "unknown"),
        ({"Model": " "}, {"Model": "property"}, "unknown"),
        ({"Model": 7}, {}, "7"),
    ],
)
def test_a_declared_dimension_is_always_at_the_root(dimension_values, properties, expected):
    payload = build(dimension_values=dimension_values, extra_properties=properties)
    assert payload["Model"] == expected


def test_a_value_for_no_declared_dimension_becomes_a_property():
    assert build(dimension_values={"Model": "m", "Region": "eu-west-1"})["Region"] == "eu-west-1"


def test_a_metric_wins_over_a_dimension_value_and_a_dimension_value_over_a_property():
    payload = build(
        dimension_values={"Model": "m", "inputTokens": "x", "Region": "value"},
        extra_properties={"outputTokens": "x", "Region": "property", "Model": "x"},
    )
    assert (payload["inputTokens"], payload["outputTokens"]) == (12, 5)
    assert (payload["Region"], payload["Model"]) == ("value", "m")


@pytest.mark.parametrize(
    ("dimensions", "left"),
    [
        ([["Model", "Stage"], ["Model"]], [["Stage"], []]),
        ([["Stage"], ["Model", "Stage"]], [["Stage"]]),
        ([["A", "B"], ["B", "Model", "A"], []], [["B", "A"], []]),
    ],
)
def test_a_new_counter_with_the_name_of_a_dimension_is_counted_once_and_leaves_the_sets(dimensions, left):
    payload = build(usage={"Model": 3, "inputTokens": 1}, dimensions=dimensions)
    assert payload["Model"] == 3
    assert payload["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == left


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain ASCII, as it is: " + string.punctuation.replace("\\", ""),) * 2,
        ("ACME\\Bob", "ACME\\Bob"),
        ("café", "caf\\xe9"),
        ("caf\\xe9", "caf\\\\xe9"),
        ("caf\\\\xe9", "caf\\\\\\\\xe9"),
        ("模型", "\\u6a21\\u578b"),
        ("🦜", "\\U0001f99c"),
        ("a\tb\n", "a\\tb\\n"),
        ("\x00\x7f", "\\x00\\x7f"),
        ("\ud800", "\\ud800"),
        ("x" * 1025, "x" * 1024),
        (" " * 1024 + "x", "unknown"),
        ("\N{NO-BREAK SPACE}", "\\xa0"),
        (True, "True"),
        (None, "unknown"),
        (b"x", "b'x'"),
    ],
)
def test_a_dimension_value_becomes_text_that_cloudwatch_takes(value, text):
    assert dimension_text(value) == text
    assert build(dimension_values={"Model": value})["Model"] == text


def test_a_dimension_value_without_text_is_unknown():
    class Mute:
        def __str__(self):
            raise RuntimeError

    assert dimension_text(Mute()) == "unknown"


def test_a_string_enum_gives_its_value():
    class Stage(str, enum.Enum):
        PROD = "prod"

    assert type(dimension_text(Stage.PROD)) is str
    assert dimension_text(Stage.PROD) == "prod"


@pytest.mark.parametrize(
    ("parameter", "value", "error"),
    [
        ("usage", [("inputTokens", 1)], TypeError),
        ("usage", {"inputTokens": "1"}, TypeError),
        ("usage", {"inputTokens": True}, ValueError),
        ("usage", {"inputTokens": float("nan")}, ValueError),
        ("usage", {"inputTokens": float("inf")}, ValueError),
        ("usage", {"inputTokens": 2**361}, ValueError),
        ("usage", {}, ValueError),
        ("usage", {f"counter{n}": n for n in range(101)}, ValueError),
        ("usage", {"": 1}, ValueError),
        ("usage", {"_aws": 1}, ValueError),
        ("usage", {"é": 1}, ValueError),
        ("usage", {1: 1}, TypeError),
        ("dimension_values", None, TypeError),
        ("dimension_values", {"_aws": "x"}, ValueError),
        ("dimension_values", {1: "x"}, TypeError),
        ("extra_properties", "x", TypeError),
        ("extra_properties", {"_aws": {}}, ValueError),
        ("timestamp_ms", 1.5, TypeError),
        ("timestamp_ms", True, TypeError),
        ("timestamp_ms", "now", TypeError),
        ("namespace", "AWS/Lambda", ValueError),
        ("dimensions", ["Model"], TypeError),
    ],
)
def test_what_gives_no_valid_event_is_refused_by_the_name_of_the_parameter(parameter, value, error):
    with pytest.raises(error, match=rf"\A{parameter} .*write"):
        build(**{parameter: value})


@pytest.mark.parametrize("usage", [{"a": 2**360}, {"a": -(2**360)}, {f"counter{n}": n for n in range(100)}])
def test_what_is_at_the_limit_is_taken(usage):
    payload = build(usage=usage)
    assert {name: payload[name] for name in usage} == usage


@pytest.mark.parametrize(
    ("parameter", "value", "got"),
    [
        ("usage", {"inputTokens": "12"}, "got '12' for 'inputTokens'"),
        ("timestamp_ms", "now", "got 'now'"),
        ("namespace", 7, "got 7"),
        ("namespace", "AWS/Lambda", "got 'AWS/Lambda'"),
        ("dimensions", ["Model"], "got ['Model']; write [['Model']]"),
        ("dimensions", ["Model", ["Stage"]], "got ['Model', ['Stage']]; write [['Model']]"),
        ("usage", 7, "write, for example, {'inputTokens': 12}"),
        ("dimensions", 7, "got 7; write [['Model']]"),
        ("dimensions", [[7]], "got 7"),
        ("dimensions", [[":x"]], "got ':x'"),
        ("dimensions", [["_aws"]], "contain '_aws'"),
        ("dimensions", [["a", "a"]], "twice in ['a', 'a']"),
        ("extra_properties", 7, "got 7"),
    ],
)
def test_a_refusal_shows_what_came(parameter, value, got):
    with pytest.raises((TypeError, ValueError), match=re.escape(got)):
        build(**{parameter: value})


def test_all_parameters_are_keywords():
    with pytest.raises(TypeError, match="positional"):
        build_emf_payload(USAGE, "Team/Tokens", [["Model"]], {})
