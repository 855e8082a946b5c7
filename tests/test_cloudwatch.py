"""docs/cloudwatch.yaml and docs/cloudwatch.md name what the package publishes; cfn-lint checks the rest."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import make_agent, says
from strands_token_telemetry import TokenUsageHook
from strands_token_telemetry.checks import TOKEN_METRICS

DOCS = Path(__file__).parents[1] / "docs"
TEMPLATE = (DOCS / "cloudwatch.yaml").read_text(encoding="utf-8")
PAGE = (DOCS / "cloudwatch.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^ *```{language}\n(.*?)^ *```", PAGE, re.DOTALL | re.MULTILINE)


def test_the_template_is_clean_under_cfn_lint():
    pytest.importorskip("cfnlint", reason="cfn-lint is not installed")
    code = "import sys; from cfnlint.runner import main; sys.exit(main())"
    command = [sys.executable, "-c", code, str(DOCS / "cloudwatch.yaml")]
    linted = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (linted.returncode, linted.stdout) == (0, "")


def test_the_template_uses_the_namespace_the_dimension_and_the_metrics_of_the_hook():
    hook = TokenUsageHook()
    assert re.findall(r"Default: (.*/.*)", TEMPLATE) == [hook.namespace]
    named = set(re.findall(r"\b(\w+Tokens)\b", TEMPLATE))
    assert named == TOKEN_METRICS
    of_alarms = re.findall(r"Dimensions: \[\{Name: (\w+), Value: !Ref Model\}\]", TEMPLATE)
    of_queries = re.findall(r'SCHEMA\("\$\{Namespace\}", (\w+)\)', TEMPLATE)
    of_searches = re.findall(r'SEARCH\(\'\{\\"\$\{Namespace\}\\",\\"(\w+)\\"\}', TEMPLATE)
    of_widgets = re.findall(r'\["\$\{Namespace\}", "\w+", "(\w+)", "\$\{Model\}"', TEMPLATE)
    assert (len(of_alarms), len(of_queries), len(of_searches), len(of_widgets)) == (4, 2, 7, 4)
    assert {*of_alarms, *of_queries, *of_searches, *of_widgets} == {"Model"}
    assert hook.dimensions == [["Model"]]


# One invocation: 100 tokens read from a cache, 20 written to it, 300 others, and 50 of output. Providers
# differ in inputTokens, which is 300 (Bedrock) or 420 (OpenAI), so the formulas do not use it.
USAGE = {"total": 470, "output": 50, "read": 100, "write": 20}
PRICES = {"InputPrice": "3", "OutputPrice": "15", "CacheReadPrice": "0.3", "CacheWritePrice": "3.75"}


def value_of(formula):
    arithmetic = re.sub(r"\$\{(\w+)\}", lambda match: PRICES[match[1]], formula)
    assert re.fullmatch(r"[a-z\d\s.()*/+-]+", arithmetic)
    return eval(arithmetic, {"__builtins__": {}}, USAGE)  # noqa: S307 (arithmetic, as just seen)


def test_the_spend_and_the_cache_share_are_right_on_a_worked_example():
    spend = (300 * 3 + 50 * 15 + 100 * 0.3 + 20 * 3.75) / 1_000_000
    (of_alarm,) = re.findall(r'Expression: !Sub "(\(.*)"', TEMPLATE)
    of_widget = re.findall(r'"id": "c\d", .*"expression": "(.*)"', TEMPLATE)
    (share,) = re.findall(r'"expression": "(100 .*)"', TEMPLATE)
    assert value_of(of_alarm) == pytest.approx(spend)
    assert sum(map(value_of, of_widget)) == pytest.approx(spend)
    assert value_of(share) == pytest.approx(100 * 100 / 420)


def test_the_longest_silence_is_the_three_hours_that_an_alarm_on_a_query_sees():
    (longest,) = re.findall(r"QuietPeriods:(?:\n    .*)*\n    MaxValue: (\d+)", TEMPLATE)
    assert int(longest) * 300 == 3 * 60 * 60
    assert TEMPLATE.count("Period: 300\n") == 1


def test_the_page_names_the_parameters_and_the_alarms_of_the_template():
    parameters = set(re.findall(r"^  (\w+):\n    Description:", TEMPLATE, re.MULTILINE))
    commands = [command for command in blocks("sh") if "cloudformation deploy" in command]
    assert len(commands) == 2
    for command in commands:
        overrides = command.partition("--parameter-overrides")[2]
        assert parameters >= {item.partition("=")[0] for item in overrides.replace("\\", "").split()}
    for name in re.findall(r'AlarmName: !Sub "\$\{AWS::StackName\}(.*)"', TEMPLATE):
        assert f"`<stack>{name}`" in PAGE
    for query in re.findall(r"'(SELECT SUM.*)'", TEMPLATE):
        assert query.replace("${Namespace}", TokenUsageHook().namespace) in PAGE


def test_the_line_on_the_page_is_one_that_the_hook_prints(events):
    agent = make_agent(says(tokens=(120, 34)), hooks=[TokenUsageHook(emitter=events)], model_id="my-model")
    agent("Hello")
    line = json.loads(blocks("json")[0])
    line["_aws"]["Timestamp"] = events[0]["_aws"]["Timestamp"]
    assert line == events[0]


def test_the_queries_use_names_that_lines_have():
    (block,) = [block for block in blocks("python") if "property_resolver" in block]
    properties = re.findall(r'"(\w+)": event\.', block)
    queries = [query for query in blocks("text") if query.startswith("filter")]
    assert len(queries) == 7
    for query in queries:
        own = re.findall(r" as (\w+)", query)
        used = re.findall(r"\b[A-Za-z]*[a-z][A-Z]\w*|\bModel\b", re.sub(r'"[^"]*"', "", query))
        assert set(used) <= {*TOKEN_METRICS, "Model", *properties, *own}
