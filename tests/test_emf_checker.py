"""The checker finds each breach of a rule: one test for every rule."""

import copy
import json
import time

import pytest

from emf_checker import Datum, InvalidEventError, extract

VALID = {
    "_aws": {
        "Timestamp": int(time.time() * 1000),
        "CloudWatchMetrics": [
            {
                "Namespace": "Team/Tokens",
                "Dimensions": [["Model"], ["Model", "Stage"]],
                "Metrics": [{"Name": "inputTokens", "Unit": "Count"}],
            }
        ],
    },
    "Model": "m",
    "Stage": "prod",
    "inputTokens": 12,
    "note": "any",
}


def broken(*path_and_value):
    *path, last, value = path_and_value
    event = copy.deepcopy(VALID)
    target = event
    for step in path:
        target = target[step]
    if value is ...:
        del target[last]
    else:
        target[last] = value
    return json.dumps(event)


DIRECTIVE = ("_aws", "CloudWatchMetrics", 0)
METRIC = (*DIRECTIVE, "Metrics", 0)


def test_a_valid_event_gives_a_datum_for_each_metric_and_dimension_set():
    assert extract(json.dumps(VALID)) == [
        Datum("Team/Tokens", {"Model": "m"}, "inputTokens", 12),
        Datum("Team/Tokens", {"Model": "m", "Stage": "prod"}, "inputTokens", 12),
    ]


def test_an_empty_dimension_set_is_valid():
    assert extract(broken(*DIRECTIVE, "Dimensions", [[]])) == [Datum("Team/Tokens", {}, "inputTokens", 12)]


@pytest.mark.parametrize(
    ("rule", "line"),
    [
        ("one line", "Hello" + "\n" + json.dumps(VALID)),
        ("one line", " " + json.dumps(VALID)),
        ("one line", json.dumps(VALID, indent=1)),
        ("size", broken("note", "x" * 262_144)),
        ("JSON", "INFO " + json.dumps(VALID)),
        ("JSON", broken("note", float("nan"))),
        ("JSON", broken("note", float("inf"))),
        ("member twice", json.dumps(VALID)[:-1] + ', "Model": "other"}'),
        ("object", "[]"),
        ("lone surrogate", broken("note", "\ud800")),
        ("metadata", broken("_aws", ...)),
        ("timestamp type", broken("_aws", "Timestamp", str(time.time()))),
        ("timestamp type", broken("_aws", "Timestamp", time.time() * 1000)),
        ("timestamp range", broken("_aws", "Timestamp", int(time.time()))),
        ("timestamp range", broken("_aws", "Timestamp", int(time.time() * 1000) + 3 * 60 * 60 * 1000)),
        ("directives", broken("_aws", "CloudWatchMetrics", [])),
        ("namespace type", broken(*DIRECTIVE, "Namespace", ...)),
        ("namespace", broken(*DIRECTIVE, "Namespace", "")),
        ("namespace", broken(*DIRECTIVE, "Namespace", " ")),
        ("namespace", broken(*DIRECTIVE, "Namespace", "AWS/Lambda")),
        ("namespace", broken(*DIRECTIVE, "Namespace", ":x")),
        ("namespace", broken(*DIRECTIVE, "Namespace", "x" * 256)),
        ("namespace", broken(*DIRECTIVE, "Namespace", "café")),
        ("dimensions type", broken(*DIRECTIVE, "Dimensions", ...)),
        ("dimension sets", broken(*DIRECTIVE, "Dimensions", [])),
        ("dimension set type", broken(*DIRECTIVE, "Dimensions", ["Model"])),
        ("dimension set size", broken(*DIRECTIVE, "Dimensions", [["Model"] * 31])),
        ("dimension key type", broken(*DIRECTIVE, "Dimensions", [[1]])),
        ("dimension key", broken(*DIRECTIVE, "Dimensions", [[":Model"]])),
        ("dimension key", broken(*DIRECTIVE, "Dimensions", [["M" * 251]])),
        ("dimension value type", broken("Model", ...)),
        ("dimension value type", broken("Model", 7)),
        ("dimension value", broken("Model", "")),
        ("dimension value", broken("Model", "  ")),
        ("dimension value", broken("Model", "café")),
        ("dimension value", broken("Model", "a\tb")),
        ("dimension value", broken("Model", "m" * 1025)),
        ("dimension sets twice", broken(*DIRECTIVE, "Dimensions", [["Model", "Stage"], ["Stage", "Model"]])),
        ("dimension key twice", broken(*DIRECTIVE, "Dimensions", [["Model", "Model"]])),
        ("metrics type", broken(*DIRECTIVE, "Metrics", ["inputTokens"])),
        ("metrics number", broken(*DIRECTIVE, "Metrics", [])),
        (
            "metrics number",
            broken(*DIRECTIVE, "Metrics", VALID["_aws"]["CloudWatchMetrics"][0]["Metrics"] * 101),
        ),
        ("metric twice", broken(*DIRECTIVE, "Metrics", VALID["_aws"]["CloudWatchMetrics"][0]["Metrics"] * 2)),
        ("metric name", broken(*METRIC, "Name", "")),
        ("metric unit", broken(*METRIC, "Unit", "Tokens")),
        ("metric value type", broken(*METRIC, "Name", "absent")),
        ("metric value type", broken("inputTokens", "12")),
        ("metric value type", broken("inputTokens", True)),
        ("metric value range", broken("inputTokens", 2**361)),
    ],
)
def test_each_broken_rule_is_found_by_its_name(rule, line):
    with pytest.raises(InvalidEventError, match=rf"\A{rule}: "):
        extract(line)
