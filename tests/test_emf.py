"""The builder: it is pure, and its event is the one that the specification describes."""

import copy
import string
import time

import pytest

from helpers import Events, Stage
from strands_token_telemetry import build_emf_payload

USAGE = {"inputTokens": 12, "outputTokens": 5, "totalTokens": 17}


def build(**changes):
    arguments = {"usage": USAGE, "namespace": "Team/Tokens", "dimensions": [["Model"]]}
    payload = build_emf_payload(**arguments | {"dimension_values": {"Model": "m"}} | changes)
    if "timestamp_ms" not in changes:
        Events()(payload)  # checks it
    return payload


def test_the_event_is_the_one_that_the_specification_describes():
    payload = build(extra_properties={"SessionId": "s-1"}, timestamp_ms=1_700_000_000_000)
    metrics = [{"Name": name, "Unit": "Count"} for name in USAGE]
    directive = {"Namespace": "Team/Tokens", "Dimensions": [["Model"]], "Metrics": metrics}
    metadata = {"Timestamp": 1_700_000_000_000, "CloudWatchMetrics": [directive]}
    assert [*payload.items()] == [("_aws", metadata), ("Model", "m"), *USAGE.items(), ("SessionId", "s-1")]


def test_the_timestamp_is_now_in_milliseconds():
    before = time.time() * 1000
    assert before - 1 <= build()["_aws"]["Timestamp"] <= time.time() * 1000


def test_nothing_is_changed_and_no_container_is_shared():
    arguments = {
        "usage": dict(USAGE),
        "dimensions": [["Model"], []],
        "dimension_values": {"Model": "m", "Undeclared": ["x"]},
        "extra_properties": {"list": [1, [2]], "dict": {"a": {"b": 1}}},
    }
    before = copy.deepcopy(arguments)
    payload = build(**arguments)
    assert payload["list"] == [1, [2]]
    payload["list"][1].append(3)
    payload["dict"]["a"]["b"] = 2
    payload["Undeclared"].append("y")
    payload["_aws"]["CloudWatchMetrics"][0]["Dimensions"][0].append("Changed")
    assert arguments == before


@pytest.mark.parametrize(
    ("values", "properties", "expected"),
    [
        ({}, {"Model": "property"}, "property"),
        ({"Model": None}, {"Model": "property"}, "property"),
        ({"Model": ""}, {"Model": "property"}, "unknown"),
        ({}, {}, "unknown"),
    ],
)
def test_a_dimension_without_a_value_takes_the_property_or_is_unknown(values, properties, expected):
    assert build(dimension_values=values, extra_properties=properties)["Model"] == expected


def test_none_counts_as_missing():
    payload = build(extra_properties={"SessionId": None, "list": [None]}, dimension_values={"Stage": None})
    assert (payload["list"], payload["Model"]) == ([None], "unknown")
    assert not {"SessionId", "Stage"} & payload.keys()


def test_a_metric_wins_over_a_dimension_and_a_dimension_over_a_property():
    payload = build(
        dimension_values={"Model": "m", "inputTokens": "x", "Region": "value", "Zone": None},
        extra_properties={"outputTokens": "x", "Region": "property", "Model": "x", "Zone": "property"},
    )
    expected = {"inputTokens": 12, "outputTokens": 5, "Region": "value", "Model": "m", "Zone": "property"}
    assert expected.items() <= payload.items()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain ASCII, as it is: " + string.punctuation.replace("\\", ""),) * 2,
        ("ACME\\Bob", "ACME\\\\Bob"),
        ("café", "caf\\xe9"),
        ("caf\\xe9", "caf\\\\xe9"),
        ("lone \ud800", "lone \\ud800"),
        ("模型", "\\u6a21\\u578b"),
        ("\x00\x7f", "\\x00\\x7f"),
        ("x" * 1024, "x" * 1024),
        ("x" * 1025, "x" * 1024),
        ("é" * 1024, "\\xe9" * 256),
        (" " * 1024 + "x", "unknown"),
        ("\N{NO-BREAK SPACE}", "\\xa0"),
        (7, "7"),
        (Stage.PROD, "prod"),
    ],
)
def test_a_dimension_value_becomes_text_that_cloudwatch_takes(value, text):
    assert build(dimension_values={"Model": value})["Model"] == text


# Robustness: names that are enums, and counters at the limit.


def test_names_may_be_string_enums():
    values = {Stage.PROD: "x"}
    assert build(namespace=Stage.PROD, dimensions=[[Stage.PROD]], dimension_values=values)["prod"] == "x"


@pytest.mark.parametrize(
    "usage", [{"a": 2**360, "b": -(2**360)}, {"a": 1.5, "b": 0}, {f"counter{n}": n for n in range(100)}]
)
def test_counters_at_the_limit_are_taken(usage):
    assert usage.items() <= build(usage=usage).items()
