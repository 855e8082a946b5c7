"""The checker finds each broken rule: one test for every rule."""

import json
import time

import pytest

from emf_checker import Datum, InvalidEventError, extract

NOW = int(time.time() * 1000)
METRIC = {"Name": "inputTokens", "Unit": "Count"}
DIRECTIVE = {"Namespace": "Team/Tokens", "Dimensions": [["Model", "Stage"], []], "Metrics": [METRIC]}
METADATA = {"Timestamp": NOW, "CloudWatchMetrics": [DIRECTIVE]}


def event(**members):
    """Return a valid event with other members, as a line."""
    return json.dumps({"_aws": METADATA, "Model": "m", "Stage": "prod", "inputTokens": 12} | members)


def metadata(**members):
    return event(_aws=METADATA | members)


def directive(**members):
    return metadata(CloudWatchMetrics=[DIRECTIVE | members])


def metric(**members):
    return directive(Metrics=[METRIC | members])


def test_a_valid_event_gives_a_datum_for_each_metric_and_dimension_set():
    assert extract(event(note="any")) == [
        Datum("Team/Tokens", {"Model": "m", "Stage": "prod"}, "inputTokens", 12),
        Datum("Team/Tokens", {}, "inputTokens", 12),
    ]


BROKEN = {
    "one line": ["Hello\n" + event(), " " + event(), json.dumps(json.loads(event()), indent=1)],
    "size": [event(note="x" * 262_144)],
    "JSON": ["INFO " + event(), *(event(note=note) for note in (float("nan"), float("inf"), "\ud800"))],
    "member twice": [event()[:-1] + ', "Model": "other"}', event().replace("}", ', "Unit": "Count"}', 1)],
    "object": ["[]"],
    "metadata": ["{}"],
    "timestamp type": [metadata(Timestamp=timestamp) for timestamp in (str(NOW), float(NOW))],
    "timestamp range": [metadata(Timestamp=timestamp) for timestamp in (NOW // 1000, NOW + 3 * 3_600_000)],
    "directives": [metadata(CloudWatchMetrics=[])],
    "namespace": [
        directive(Namespace=name) for name in (None, "", " ", "AWS/Lambda", ":x", "x" * 256, "café")
    ],
    "dimensions type": [directive(Dimensions=None)],
    "dimension sets": [directive(Dimensions=[])],
    "dimension set type": [directive(Dimensions=["Model"])],
    "dimension set size": [directive(Dimensions=[["Model"] * 31])],
    "dimension key": [directive(Dimensions=[[key]]) for key in (1, ":Model", "M" * 251)],
    "dimension value": [event(Model=value) for value in (None, 7, "", "  ", "café", "a\tb", "m" * 1025)],
    "dimension sets twice": [directive(Dimensions=[["Model", "Stage"], ["Stage", "Model"]])],
    "dimension key twice": [directive(Dimensions=[["Model", "Model"]])],
    "metrics type": [directive(Metrics=["inputTokens"])],
    "metrics number": [directive(Metrics=[]), directive(Metrics=[METRIC] * 101)],
    "metric twice": [directive(Metrics=[METRIC] * 2)],
    "metric name": [metric(Name="")],
    "metric unit": [metric(Unit="Tokens")],
    "metric value type": [metric(Name="absent"), event(inputTokens="12"), event(inputTokens=True)],
    "metric value range": [event(inputTokens=2**361)],
}
CASES = [(rule, line) for rule, lines in BROKEN.items() for line in lines]


@pytest.mark.parametrize(("rule", "line"), CASES, ids=[rule for rule, _ in CASES])
def test_each_broken_rule_is_found_by_its_name(rule, line):
    with pytest.raises(InvalidEventError, match=rf"\A{rule}: "):
        extract(line)
