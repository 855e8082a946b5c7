"""The templates and docs/cloudwatch.md name what the package publishes, and compute what the bill says."""

import json
import re
import shlex
import subprocess
import sys
from types import SimpleNamespace

import pytest

from helpers import ScriptedModel, make_agent, says, since, uses_with
from strands_token_telemetry import TokenUsageHook
from strands_token_telemetry.checks import TOKEN_METRICS
from template import PRICES, REQUIRED, TEMPLATES, TOPIC, compute, deploy, graphs

DOCS = TEMPLATES["overview"].parents[1]
PAGE = (DOCS / "cloudwatch.md").read_text(encoding="utf-8")
QUERIES = dict(re.findall(r"^([^\n]+):\n```text\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE))
OPTIONS = {"overview": {"LogGroup": "/agents", "QuietPeriods": "36"}, "spend": {}, "session-alarm": {}}

each_template = pytest.mark.parametrize("name", TEMPLATES)


def alarms(stack):
    return {one["AlarmName"].replace("stack", "<stack>"): one for one in stack.values() if "AlarmName" in one}


@each_template
def test_a_template_is_clean_under_cfn_lint(name):
    pytest.importorskip("cfnlint", reason="cfn-lint is not installed")
    code = "import sys; from cfnlint.runner import main; sys.exit(main())"
    command = [sys.executable, "-c", code, str(TEMPLATES[name])]
    linted = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (linted.returncode, linted.stdout) == (0, "")


@pytest.mark.parametrize(("name", "parameter"), [(name, key) for name in REQUIRED for key in REQUIRED[name]])
def test_what_has_no_sensible_default_is_required_and_a_number_is_a_plain_one(name, parameter):
    assert deploy(name, **dict.fromkeys(REQUIRED[name].keys() & PRICES, "0"))  # a free model
    odd = ["00", "03", ".5", "5.", "1,5", "1e3", "-1", "$3"] if REQUIRED[name][parameter][0].isdigit() else []
    for wrong in (None, "", *odd):
        with pytest.raises(ValueError, match=parameter):
            deploy(name, **{parameter: wrong})


@each_template
def test_an_alarm_says_where_to_look_what_to_run_and_what_to_read(name):
    for key, alarm in alarms(deploy(name, **OPTIONS[name])).items():
        assert alarm["AlarmActions"] == alarm["OKActions"] == [*TOPIC.values()]
        text = alarm["AlarmDescription"]
        assert "dashboard stack," in text or name == "session-alarm"  # which has no dashboard of its own
        assert any(query in text for query in QUERIES)
        (anchor,) = re.findall(r"https://\S+/docs/cloudwatch\.md#(\S+)$", text)
        assert f"# {anchor.replace('-', ' ')}\n" in PAGE.lower()
        assert f"| `{key}` |" in PAGE


def test_the_alarm_on_silence_is_off_by_default_and_gives_a_fresh_stack_time():
    assert alarms(deploy("overview")).keys() == {"<stack>-tokens-per-hour"}
    alarm = deploy("overview", QuietPeriods="36")["QuietAlarm"]
    three_hours = 3 * 60 * 60  # all that an alarm on a Metrics Insights query sees
    assert int(alarm["EvaluationPeriods"]) * alarm["Metrics"][0]["Period"] == three_hours
    assert alarm["WarmUpConfiguration"]["WarmUpPeriodDurationInMinutes"] * 60 == three_hours


@pytest.mark.parametrize("namespace", [None, "My/Agents"], ids=["the default", "another"])
def test_the_templates_read_what_the_hook_publishes_but_for_the_ambiguous_input(namespace):
    hook = TokenUsageHook(namespace=namespace)
    stacks = [deploy(name, Namespace=namespace) for name in ("overview", "spend")]
    text = json.dumps([[stack["Dashboard"], alarms(stack)] for stack in stacks]).replace("\\", "")
    found = re.findall(r'"Namespace": "(\S+)", "MetricName": "(\w+)", "Dimensions": \[{"Name": "(\w+)"', text)
    found += re.findall(r'\["(\S+)", "(\w+)", "(\w+)", "my-model"', text)
    found += re.findall(r'{"(\S+)","(\w+)"} MetricName="(\w+)"', text)
    found += re.findall(r'\((\w+)\) FROM SCHEMA\("(\S+)", (\w+)\)', text)
    expected = [(hook.namespace, metric, "Model") for metric in TOKEN_METRICS - {"inputTokens"}]
    assert {frozenset(one) for one in found} == {frozenset(one) for one in expected}
    assert hook.dimensions == [["Model"]]


# What is reported of an hour: input, output, total, read from a cache, written to it. Then by hand: the spend
# at prices of 3, 15, 0.3 and 3.75, the input that was sent, and how many percent of it came from a cache.
@pytest.mark.parametrize(
    ("reported", "bill", "sent", "share"),
    [
        # Anthropic and Bedrock: the cached tokens are beside the input.
        ((1_000_000, 100_000, 5_300_000, 4_000_000, 200_000), 3 + 1.5 + 1.2 + 0.75, 5_200_000, 400 / 5.2),
        ((0, 50_000, 3_050_000, 3_000_000, 0), 0.75 + 0.9, 3_000_000, 100),
        ((2_000_000, 200_000, 2_200_000), 6 + 3, 2_000_000, 0),
        # OpenAI and Gemini: the cached tokens are a part of the input.
        ((5_000_000, 100_000, 5_100_000, 4_000_000), 3 + 1.5 + 1.2, 5_000_000, 80),
        ((5_000_000, 100_000, 5_100_000, 3_000_000, 1_000_000), 3 + 1.5 + 0.9 + 3.75, 5_000_000, 60),
    ],
)
def test_alarm_and_graphs_agree_with_the_bill_of_each_hour(reported, bill, sent, share):
    names = ["inputTokens", "outputTokens", "totalTokens", "cacheReadInputTokens", "cacheWriteInputTokens"]
    stack, usage = deploy("spend"), dict(zip(names, reported, strict=False))
    (spend,), (_, _, both, cache) = graphs(stack).values(), graphs(deploy("overview")).values()
    assert compute(stack["SpendAlarm"]["Metrics"], usage)["spend"] == pytest.approx(bill)
    parts = compute(spend["metrics"], usage)
    assert sum(parts[key] for key in ("c1", "c2", "c3", "c4")) == pytest.approx(bill)
    assert compute(both["metrics"], usage)["input"] == sent
    assert compute(cache["metrics"], usage)["share"] == pytest.approx(share)


@pytest.mark.parametrize(("name", "threshold"), [("overview", "TokensPerHour"), ("spend", "SpendPerHour")])
def test_the_line_in_a_graph_is_the_threshold_of_its_alarm(name, threshold):
    stack = deploy(name, **{threshold: "7"})
    (line,) = next(iter(graphs(stack).values()))["annotations"]["horizontal"]
    assert [line["value"]] == [int(alarm["Threshold"]) for alarm in alarms(stack).values()] == [7]


@pytest.mark.parametrize("name", ["SessionId", "session-id", "_id", "Caller.Team", "session id"])
def test_the_alarm_on_one_session_takes_any_property_and_its_role_reads_one_log_group(name):
    stack = deploy("session-alarm", SessionProperty=name)
    query = stack["SessionAlarm"]["ScheduledQueryConfiguration"]
    assert f"ispresent(`{name}`)" in query["QueryString"]
    assert f"sum(totalTokens) by `{name}` " in query["AggregationExpression"]
    with pytest.raises(ValueError, match="SessionProperty"):
        deploy("session-alarm", SessionProperty=f"{name}`")
    of_the_group, _ = stack["QueryRole"]["Policies"][0]["PolicyDocument"]["Statement"]
    assert of_the_group["Resource"].endswith(":log-group:/agents:*")


def test_the_saved_queries_are_those_of_the_page_and_ask_for_their_parameters():
    saved = [one for one in deploy("overview", LogGroup="/agents").values() if "QueryString" in one]
    assert {one["Name"]: one["QueryString"] for one in saved} == {
        f"stack/{key}": QUERIES[key] for key in QUERIES
    }
    for one in saved:
        asked = [parameter["Name"] for parameter in one.get("Parameters", [])]
        assert asked == re.findall("{{(.*?)}}", one["QueryString"])


def test_the_queries_use_names_that_lines_have():
    names = {}
    exec(re.search(r"^```python\n(.*?property_resolver.*?)^```", PAGE, re.DOTALL | re.MULTILINE)[1], names)
    properties = names["hook"].property_resolver(SimpleNamespace(agent=SimpleNamespace(name="researcher")))
    for query in QUERIES.values():
        used = re.findall(r"(?<!@)\b[A-Za-z]*[a-z][A-Z]\w*|\bModel\b", re.sub(r'"[^"]*"|/[^/]*/', "", query))
        assert set(used) <= {*TOKEN_METRICS, "Model", *properties, *re.findall(r" as (\w+)", query)}


def test_the_query_for_broken_lines_finds_them_and_no_whole_one(capsys):
    make_agent(hooks=[TokenUsageHook()])("Hello")
    (line,) = re.findall(r'^{"_aws".*', capsys.readouterr().out, re.MULTILINE)
    ours, whole = (re.compile(pattern) for pattern in re.findall(r"/(.*?)/", QUERIES["Broken lines"]))
    broken = [f"stdout F {line}", f"{line} 200 OK", f"Hello.\n{line}", line[:250], json.dumps({"log": line})]
    assert all(ours.search(text) for text in broken)
    assert [text for text in [line, f"{line}\n", *broken] if whole.search(text)] == [line, f"{line}\n"]


def test_the_commands_of_the_page_deploy_the_templates():
    deployed = set()
    for command in re.findall(r"^aws cloudformation deploy (.*?[^\\])$", PAGE, re.DOTALL | re.MULTILINE):
        words = shlex.split(command.replace("\\\n", ""))
        name = words[words.index("--template-file") + 1].removesuffix(".yaml")
        given = dict(word.split("=") for word in words if "=" in word)
        stack = deploy(name, **dict.fromkeys(REQUIRED[name]) | given)
        assert ("CAPABILITY_IAM" in words) == ("QueryRole" in stack)
        deployed.add(name)
    assert deployed == TEMPLATES.keys()


@since("1.62", "the vended swarm")
def test_the_builder_in_the_limits_counts_the_agents_of_subagents_and_swarms(events, monkeypatch):
    page = (DOCS / "limits.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    subagent = uses_with("subagent", task="Go.")
    swarm = uses_with("swarm", task="Go.", agents=[{"name": "one", "instructions": "Go."}])
    model = ScriptedModel(subagent, says(), swarm, says(), says())
    monkeypatch.setattr("strands.agent.agent.BedrockModel", lambda: model)
    names = {"events": events}
    exec(example.replace("TokenUsageHook()", "TokenUsageHook(emitter=events)"), names)
    names["agent"]("Hello")
    assert len(events) == 3
    assert events.total() == model.reported
