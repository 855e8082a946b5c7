"""docs/cloudwatch.yaml and docs/cloudwatch.md name what the package publishes; cfn-lint checks the rest."""

import json
import re
import subprocess
import sys

import pytest

from helpers import ScriptedModel, says, since, uses
from strands_token_telemetry import TokenUsageHook
from template import PRICES, TEMPLATE, deploy, spend, value_of

COUNTERS = {"inputTokens", "outputTokens", "totalTokens", "cacheReadInputTokens", "cacheWriteInputTokens"}
PAGE = TEMPLATE.with_suffix(".md").read_text(encoding="utf-8")
FULL = {"Model": "my-model", **PRICES, "LogGroup": "/agents", "TokensPerSession": "500000"}
FULL["QueryRoleArn"] = "arn:aws:iam::111122223333:role/queries"


def blocks(language):
    return re.findall(rf"^ *```{language}\n(.*?)^ *```", PAGE, re.DOTALL | re.MULTILINE)


def widgets(stack):
    return [widget["properties"] for widget in json.loads(stack["Dashboard"]["DashboardBody"])["widgets"]]


def test_the_template_is_clean_under_cfn_lint():
    pytest.importorskip("cfnlint", reason="cfn-lint is not installed")
    code = "import sys; from cfnlint.runner import main; sys.exit(main())"
    command = [sys.executable, "-c", code, str(TEMPLATE)]
    linted = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (linted.returncode, linted.stdout) == (0, "")


ALL_MODELS = {"tokens-per-hour", "no-invocations"}


@pytest.mark.parametrize(
    ("parameters", "alarms", "graphs"),
    [
        ({}, ALL_MODELS, 4),
        ({"TokensPerHour": "0", "QuietPeriods": "0"}, set(), 4),
        ({"LogGroup": "/agents"}, {*ALL_MODELS, "emf-errors"}, 4),
        ({"Model": "m", **PRICES}, {*ALL_MODELS, "spend-per-hour"}, 5),
        ({"Model": "m", **PRICES, "SpendPerHour": "0"}, ALL_MODELS, 5),
        (FULL, {*ALL_MODELS, "emf-errors", "spend-per-hour", "tokens-per-session"}, 5),
        ({**FULL, "AllModels": "false"}, {"spend-per-hour"}, 1),
    ],
)
def test_a_stack_has_the_alarms_and_the_graphs_that_its_parameters_ask_for(parameters, alarms, graphs):
    stack = deploy(**parameters)
    found = {alarm["AlarmName"] for alarm in stack.values() if "AlarmName" in alarm}
    assert found == {f"stack-{name}" for name in alarms}
    assert len(widgets(stack)) == graphs


@pytest.mark.parametrize("name", ["TokensPerHour", "SpendPerHour", "QuietPeriods", "TokensPerSession"])
def test_no_other_way_to_write_0_passes_for_a_threshold(name):
    for nothing in ("0.0", "00", ""):
        with pytest.raises(AssertionError, match=name):
            deploy(**{name: nothing})


def test_the_template_uses_the_namespace_the_dimension_and_the_metrics_of_the_hook():
    hook = TokenUsageHook()
    text = json.dumps(deploy(**FULL)).replace('\\"', '"').replace("\\", "")
    assert set(re.findall(r"\b(\w+Tokens)\b", text)) == COUNTERS
    of_alarms = re.findall(r'"Namespace": "(\S+)", "MetricName": "\w+Tokens", "Dimensions": (\[.*?\])', text)
    assert of_alarms == [(hook.namespace, '[{"Name": "Model", "Value": "my-model"}]')] * 4
    assert re.findall(r'SCHEMA\("(\S+)", (\w+)\)', text) == [(hook.namespace, "Model")] * 2
    assert re.findall(r'SEARCH\(\'{"(\S+)","(\w+)"}', text) == [(hook.namespace, "Model")] * 7
    of_graphs = re.findall(r'\["(\S+)", "\w+", "(\w+)", "my-model"', text)
    assert of_graphs == [(hook.namespace, "Model")] * 4
    assert hook.dimensions == [["Model"]]


def test_the_graphs_compute_what_the_alarm_computes():
    usage = {"totalTokens": 470, "outputTokens": 50, "cacheReadInputTokens": 100, "cacheWriteInputTokens": 20}
    graphs = widgets(deploy(**FULL))
    *_, shares, parts = ([metric[0] for metric in graph["metrics"]] for graph in graphs)
    graphed = [value_of(line["expression"], usage) for line in parts if "expression" in line]
    assert sum(graphed) == pytest.approx(spend(usage))
    assert value_of(shares[-1]["expression"], usage) == pytest.approx(100 * 100 / 420)
    lines = [line for graph in graphs for line in graph.get("annotations", {}).get("horizontal", [])]
    assert [line["value"] for line in lines] == [1000000, 10]


def test_the_longest_silence_is_the_three_hours_that_an_alarm_on_a_query_sees():
    (metric,) = deploy()["QuietAlarm"]["Metrics"]
    assert int(deploy()["QuietAlarm"]["EvaluationPeriods"]) * metric["Period"] == 3 * 60 * 60


def test_the_page_names_the_parameters_and_the_alarms_of_the_template():
    commands = [command for command in blocks("sh") if "cloudformation deploy" in command]
    assert len(commands) == 3
    for command in commands:
        overrides = command.partition("--parameter-overrides")[2].replace("\\", "").split()
        assert deploy(**dict(item.split("=", 1) for item in overrides))
    for resource in deploy(**FULL).values():
        assert resource.get("AlarmName", "").replace("stack", "<stack>") in PAGE
    assert deploy()["TokensAlarm"]["Metrics"][0]["Expression"] in PAGE


def test_the_saved_queries_are_those_of_the_page_and_use_names_that_lines_have():
    (block,) = [block for block in blocks("python") if "property_resolver" in block]
    properties = re.findall(r'"(\w+)": (?:event\.|session\.|user\.)', block)
    queries = dict(re.findall(r"^([^\n]+):\n```text\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE))
    saved = [resource for resource in deploy().values() if "QueryString" in resource]
    assert {query["Name"]: query["QueryString"] for query in saved} == {
        f"stack/{name}": query for name, query in queries.items()
    }
    for query in queries.values():
        own = re.findall(r" as (\w+)", query)
        used = re.findall(r"\b[A-Za-z]*[a-z][A-Z]\w*|\bModel\b", re.sub(r'"[^"]*"', "", query))
        assert set(used) <= {*COUNTERS, "Model", *properties, *own}


@since("1.62", "the vended swarm")
def test_the_builder_in_the_limits_counts_the_agents_of_subagents_and_swarms(events, monkeypatch):
    page = TEMPLATE.with_name("limits.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    subagent, swarm = uses("subagent"), uses("swarm")
    subagent.tools = [("subagent", {"task": "Go."})]
    swarm.tools = [("swarm", {"task": "Go.", "agents": [{"name": "one", "instructions": "Go."}]})]
    model = ScriptedModel(subagent, says(), swarm, says(), says())
    monkeypatch.setattr("strands.agent.agent.BedrockModel", lambda: model)
    names = {"events": events}
    exec(example.replace("TokenUsageHook()", "TokenUsageHook(emitter=events)"), names)
    names["agent"]("Hello")
    assert len(events) == 3
    assert events.total() == model.reported
