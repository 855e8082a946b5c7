"""docs/cloudwatch.yaml and docs/cloudwatch.md name what the package publishes, and work as they say."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from scripted import make_agent, says
from strands_token_telemetry import TokenUsageHook
from strands_token_telemetry.emf import TOKEN_METRICS

yaml = pytest.importorskip("yaml")

DOCS = Path(__file__).parents[1] / "docs"
TEMPLATE = DOCS / "cloudwatch.yaml"
DOC = (DOCS / "cloudwatch.md").read_text(encoding="utf-8")

PSEUDO = {"AWS::StackName": "agent-tokens", "AWS::Region": "eu-west-1"}
PRICES = {"InputPrice": 3, "OutputPrice": 15, "CacheReadPrice": 0.3, "CacheWritePrice": 3.75}
MODEL = {"Model": "my-model", **PRICES}
TOPIC = {"TopicArn": "arn:aws:sns:eu-west-1:111122223333:on-call"}


class Loader(yaml.SafeLoader):
    """Reads CloudFormation's short tags as their long form."""


def _long_form(loader, tag, node):
    read = {"scalar": loader.construct_scalar, "sequence": loader.construct_sequence}[node.id]
    value = read(node) if node.id == "scalar" else read(node, deep=True)
    return {tag if tag in ("Ref", "Condition") else f"Fn::{tag}": value}


Loader.add_multi_constructor("!", _long_form)


class Stack:
    """The template with parameters given, resolved as CloudFormation would."""

    def __init__(self, **parameters):
        self.template = yaml.load(TEMPLATE.read_text(encoding="utf-8"), Loader)
        defaults = {name: p.get("Default") for name, p in self.template["Parameters"].items()}
        assert parameters.keys() <= defaults.keys()
        self.values = {**defaults, **PSEUDO, **parameters}
        self.resources = {
            name: self.resolve(resource["Properties"])
            for name, resource in self.template["Resources"].items()
            if "Condition" not in resource or self.holds(resource["Condition"])
        }
        self.dashboard = json.loads(self.resources["Dashboard"]["DashboardBody"])

    def holds(self, condition):
        return self.resolve(self.template["Conditions"][condition])

    def accepts(self):
        return all(
            self.resolve(assertion["Assert"])
            for rule in self.template["Rules"].values()
            if self.resolve(rule["RuleCondition"])
            for assertion in rule["Assertions"]
        )

    def resolve(self, node):
        if isinstance(node, list):
            return [self.resolve(item) for item in node]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            [(function, argument)] = node.items()
            if function in {"Ref", "Condition"} or function.startswith("Fn::"):
                return getattr(self, "_" + function.removeprefix("Fn::").lower())(argument)
        resolved = {name: self.resolve(item) for name, item in node.items()}
        return {name: item for name, item in resolved.items() if item is not None}

    def _ref(self, name):
        return None if name == "AWS::NoValue" else self.values[name]

    def _condition(self, name):
        return self.holds(name)

    def _equals(self, pair):
        return len({str(self.resolve(item)) for item in pair}) == 1

    def _not(self, arguments):
        return not self.resolve(arguments[0])

    def _and(self, arguments):
        return all(self.resolve(argument) for argument in arguments)

    def _if(self, arguments):
        condition, then, otherwise = arguments
        return self.resolve(then if self.holds(condition) else otherwise)

    def _sub(self, argument):
        text, own = (argument, {}) if isinstance(argument, str) else argument
        values = {**self.values, **{name: self.resolve(value) for name, value in own.items()}}
        return re.sub(r"\$\{([^}]+)\}", lambda match: str(values[match[1]]), text)

    def metrics(self):
        """Return namespace, name and dimension keys of every metric in alarms and on the dashboard."""
        found = []
        for name, alarm in self.resources.items():
            for query in alarm["Metrics"] if name.endswith("Alarm") else ():
                metric = query.get("MetricStat", {}).get("Metric")
                if metric:
                    keys = [dimension["Name"] for dimension in metric["Dimensions"]]
                    found.append((metric["Namespace"], metric["MetricName"], keys))
        for widget in self.dashboard["widgets"]:
            for metric in widget["properties"]["metrics"]:
                if isinstance(metric[0], str):
                    namespace, name, *dimensions, _ = metric
                    found.append((namespace, name, dimensions[::2]))
        text = "\n".join(self.expressions())
        searches = re.findall(r'SEARCH\(\'\{"([^"]*)",([^}]*)\} MetricName="(\w+)"\'', text)
        selects = re.findall(r'SELECT \w+\((\w+)\) FROM SCHEMA\("([^"]*)", (\w+)\)', text)
        assert (len(searches), len(selects)) == (text.count("SEARCH"), text.count("SELECT"))
        found += [(namespace, name, json.loads(f"[{keys}]")) for namespace, keys, name in searches]
        found += [(namespace, name, [key]) for name, namespace, key in selects]
        return found

    def expressions(self):
        alarms = [alarm for name, alarm in self.resources.items() if name.endswith("Alarm")]
        queries = [query for alarm in alarms for query in alarm["Metrics"]]
        for widget in self.dashboard["widgets"]:
            queries += [metric[-1] for metric in widget["properties"]["metrics"]]
        return [query.get("Expression") or query["expression"] for query in queries if _is_expression(query)]


def _is_expression(query):
    return "Expression" in query or "expression" in query


STACKS = {
    "the defaults": {},
    "a model": MODEL,
    "everything": {**MODEL, **TOPIC, "Namespace": "My Team/Tokens"},
    "another model": {**MODEL, "TokensPerHour": 0, "QuietPeriods": 0},
}


@pytest.fixture(params=STACKS, ids=str)
def stack(request):
    return Stack(**STACKS[request.param])


def test_the_namespace_is_the_default_of_the_hook():
    assert Stack().values["Namespace"] == TokenUsageHook().namespace
    assert TokenUsageHook().namespace in DOC


def test_every_metric_is_one_that_the_hook_publishes_by_default(stack):
    for namespace, name, keys in stack.metrics():
        assert namespace == stack.values["Namespace"]
        assert name in TOKEN_METRICS
        assert [keys] == TokenUsageHook().dimensions


def test_every_counter_is_used():
    assert {name for _, name, _ in Stack(**MODEL).metrics()} == TOKEN_METRICS


def test_the_dashboard_has_a_place_for_each_widget(stack):
    taken = set()
    for widget in stack.dashboard["widgets"]:
        cells = {
            (x, y)
            for x in range(widget["x"], widget["x"] + widget["width"])
            for y in range(widget["y"], widget["y"] + widget["height"])
        }
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells
        assert widget["properties"]["region"] == "eu-west-1"


def test_expressions_name_only_what_their_widget_or_alarm_has(stack):
    groups = [
        [(query["Id"], query) for query in alarm["Metrics"]]
        for name, alarm in stack.resources.items()
        if name.endswith("Alarm")
    ] + [
        [(metric[-1]["id"], metric[-1]) for metric in widget["properties"]["metrics"]]
        for widget in stack.dashboard["widgets"]
    ]
    for group in groups:
        ids = [identifier for identifier, _ in group]
        assert len(set(ids)) == len(ids)
        for identifier, query in group:
            assert re.fullmatch(r"[a-z]\w*", identifier)
            expression = query.get("Expression") or query.get("expression") or ""
            if "SEARCH" not in expression and "SELECT" not in expression:
                assert set(re.findall(r"[a-z]\w*", expression)) <= set(ids)


def test_alarms_use_no_search_and_at_most_one_query_over_at_most_three_hours(stack):
    for name, alarm in stack.resources.items():
        if not name.endswith("Alarm"):
            continue
        expressions = [query["Expression"] for query in alarm["Metrics"] if "Expression" in query]
        assert not any("SEARCH" in expression for expression in expressions)
        assert [query.get("ReturnData") for query in alarm["Metrics"]].count(True) == 1
        queries = [query for query in alarm["Metrics"] if "SELECT" in query.get("Expression", "")]
        assert len(queries) <= 1
        for query in queries:
            assert query["Period"] * alarm["EvaluationPeriods"] <= 3 * 60 * 60


def test_the_longest_silence_is_within_the_three_hours_that_a_query_sees():
    longest = Stack().template["Parameters"]["QuietPeriods"]["MaxValue"]
    [query] = Stack(QuietPeriods=longest).resources["QuietAlarm"]["Metrics"]
    assert query["Period"] * longest == 3 * 60 * 60


def test_silence_is_an_alarm_and_no_spend_is_none():
    resources = Stack(**MODEL).resources
    assert resources["QuietAlarm"]["TreatMissingData"] == "breaching"
    assert resources["TokensAlarm"]["TreatMissingData"] == "notBreaching"
    assert resources["SpendAlarm"]["TreatMissingData"] == "notBreaching"


@pytest.mark.parametrize(
    ("parameters", "alarms"),
    [
        ({}, {"TokensAlarm", "QuietAlarm"}),
        (MODEL, {"TokensAlarm", "QuietAlarm", "SpendAlarm"}),
        ({**MODEL, "TokensPerHour": 0, "QuietPeriods": 0}, {"SpendAlarm"}),
        ({**MODEL, "SpendPerHour": 0}, {"TokensAlarm", "QuietAlarm"}),
    ],
)
def test_zero_is_no_alarm(parameters, alarms):
    stack = Stack(**parameters)
    assert stack.resources.keys() - {"Dashboard"} == alarms
    assert len(stack.dashboard["widgets"]) == (5 if "Model" in parameters else 4)


def test_the_topic_is_told_of_both_changes():
    for name, alarm in Stack(**MODEL, **TOPIC).resources.items():
        if name.endswith("Alarm"):
            assert alarm["AlarmActions"] == alarm["OKActions"] == list(TOPIC.values())
    assert not any("AlarmActions" in resource for resource in Stack(**MODEL).resources.values())


def test_a_model_without_prices_is_refused():
    assert Stack().accepts()
    assert Stack(**MODEL).accepts()
    assert not Stack(Model="my-model").accepts()
    assert not Stack(Model="my-model", InputPrice=3).accepts()


@pytest.mark.parametrize(
    ("parameter", "accepted", "refused"),
    [
        ("Namespace", ["Strands/AgentTokenUsage", "My Team/Tokens", "a:b"], ['a"b', "a\\b", ":a", "", "a'b"]),
        (
            "Model",
            ["", "eu.my.model-v1:0", "arn:aws:bedrock:eu-west-1:1:inference-profile/x"],
            ['a"b', "a\\b"],
        ),
        ("TopicArn", ["", "arn:aws:sns:eu-west-1:111122223333:on-call"], ["on-call"]),
    ],
)
def test_no_text_can_break_the_dashboard(parameter, accepted, refused):
    pattern = Stack().template["Parameters"][parameter]["AllowedPattern"]
    assert all(re.fullmatch(pattern, value) for value in accepted)
    assert not any(re.fullmatch(pattern, value) for value in refused)


# One invocation: 100 tokens read from a cache, 20 written to it, 300 others, and 50 of output.
SEPARATE = {"inputTokens": 300, "cacheReadInputTokens": 100, "cacheWriteInputTokens": 20}
INCLUDED = {"inputTokens": 420, "cacheReadInputTokens": 100, "cacheWriteInputTokens": 20}
OUTPUT = {"outputTokens": 50, "totalTokens": 470}
COST = (300 * 3 + 50 * 15 + 100 * 0.3 + 20 * 3.75) / 1_000_000


@pytest.mark.parametrize("usage", [{**SEPARATE, **OUTPUT}, {**INCLUDED, **OUTPUT}], ids=["Bedrock", "OpenAI"])
def test_the_spend_is_right_whatever_a_provider_calls_input(usage):
    stack = Stack(**MODEL)
    alarm = stack.resources["SpendAlarm"]["Metrics"]
    values = {
        query["Id"]: usage[query["MetricStat"]["Metric"]["MetricName"]]
        for query in alarm
        if "MetricStat" in query
    }
    [spend] = [query["Expression"] for query in alarm if "Expression" in query]
    assert _calculate(spend, values) == pytest.approx(COST)

    widget = stack.dashboard["widgets"][-1]["properties"]["metrics"]
    values = {metric[-1]["id"]: usage[metric[1]] for metric in widget if len(metric) > 1}
    parts = [metric[0]["expression"] for metric in widget if len(metric) == 1]
    assert sum(_calculate(part, values) for part in parts) == pytest.approx(COST)


@pytest.mark.parametrize("usage", [{**SEPARATE, **OUTPUT}, {**INCLUDED, **OUTPUT}], ids=["Bedrock", "OpenAI"])
def test_the_cache_share_is_that_of_all_input(usage):
    [metrics] = [w["properties"]["metrics"] for w in Stack().dashboard["widgets"] if "cache" in str(w)]
    values, share = {}, None
    for [metric] in metrics:
        name = re.search(r'MetricName="(\w+)"', metric["expression"])
        if name:
            values[metric["id"]] = usage[name[1]]
        else:
            share = metric["expression"]
    assert _calculate(share, values) == pytest.approx(100 * 100 / 420)


def _calculate(expression, values):
    assert re.fullmatch(r"[\w\s.()*/+-]+", expression)
    return eval(expression, {"__builtins__": {}}, values)  # noqa: S307 (arithmetic, as just seen)


def test_the_template_is_clean_under_cfn_lint():
    if importlib.util.find_spec("cfnlint") is None:
        pytest.skip("cfn-lint is not installed")
    code = "import sys; from cfnlint.runner import main; sys.exit(main())"
    linted = subprocess.run(
        [sys.executable, "-c", code, str(TEMPLATE)], capture_output=True, text=True, check=False
    )
    assert (linted.returncode, linted.stdout) == (0, "")


def _fenced(language):
    return re.findall(rf"^ *```{language}\n(.*?)^ *```", DOC, re.DOTALL | re.MULTILINE)


def test_the_line_in_the_doc_is_one_that_the_hook_prints(events):
    agent = make_agent(says(tokens=(120, 34)), hooks=[TokenUsageHook(emitter=events)], model_id="my-model")
    agent("Hello")
    line = json.loads(_fenced("json")[0])
    line["_aws"]["Timestamp"] = events[0]["_aws"]["Timestamp"]
    assert line == events[0]


def test_the_json_in_the_doc_is_json():
    assert len(_fenced("json")) == 4
    for block in _fenced("json"):
        json.loads(block)


def test_the_deploy_commands_give_parameters_of_the_template():
    commands = [command for command in _fenced("sh") if "cloudformation deploy" in command]
    assert len(commands) == 2
    for command in commands:
        overrides = command.partition("--parameter-overrides")[2]
        given = dict(item.split("=") for item in overrides.replace("\\", "").split())
        stack = Stack(**given)
        assert stack.accepts()
        for name, value in given.items():
            pattern = stack.template["Parameters"][name].get("AllowedPattern", r"\d+(\.\d+)?")
            assert re.fullmatch(pattern, value)


def test_the_doc_names_the_parameters_alarms_and_counters():
    stack = Stack(**MODEL)
    for name in (*stack.template["Parameters"], *TOKEN_METRICS):
        assert name == "Namespace" or name in DOC
    for name, resource in stack.resources.items():
        if name.endswith("Alarm"):
            assert "`<stack>" + resource["AlarmName"].removeprefix("agent-tokens") + "`" in DOC
    select = stack.resources["TokensAlarm"]["Metrics"][0]["Expression"]
    assert select in DOC


COMMANDS = {"fields", "filter", "stats", "sort", "limit"}
FUNCTIONS = {"ispresent", "sum", "avg", "max", "count", "count_distinct", "bin"}
WORDS = {"and", "as", "by", "asc", "desc", "s", "h"}


def test_queries_use_the_language_and_the_names_that_lines_have():
    queries = [block for block in _fenced("text") if block.startswith("filter")]
    assert len(queries) == 7
    for query in queries:
        steps = [step.strip() for step in query.split("|")]
        assert {step.split()[0] for step in steps} <= COMMANDS
        assert set(re.findall(r"(\w+)\(", query)) <= FUNCTIONS
        names = {*TOKEN_METRICS, "Model", "AgentName", "SessionId", "UserId", "timestamp"}
        names |= set(re.findall(r" as (\w+)", query))
        used = set(re.findall(r"[A-Za-z_]\w*", re.sub(r'"[^"]*"|\b\d\w*', "", query)))
        assert used <= names | COMMANDS | FUNCTIONS | WORDS


def test_the_properties_of_the_doc_are_in_the_line(events):
    [block] = [block for block in _fenced("python") if "property_resolver" in block]
    namespace = {}
    exec(block, namespace)
    hook = TokenUsageHook(property_resolver=namespace["hook"].property_resolver, emitter=events)
    agent = make_agent(hooks=[hook], name="planner", state={"session_id": "s-42", "user_id": "u-7"})
    agent("Hello")
    assert {"AgentName": "planner", "SessionId": "s-42", "UserId": "u-7"}.items() <= events[0].items()
