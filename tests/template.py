"""The templates of docs/cloudformation as CloudFormation resolves them, and metric math as Python."""

import json
import re
from pathlib import Path

import pytest

TEMPLATES = {path.stem: path for path in Path(__file__).parents[1].glob("docs/cloudformation/*.yaml")}
PRICES = {"InputPrice": "3", "OutputPrice": "15", "CacheReadPrice": "0.3", "CacheWritePrice": "3.75"}
TOPIC = {"TopicArn": "arn:aws:sns:eu-west-1:111122223333:on-call"}
REQUIRED = {
    "overview": {"TokensPerHour": "2000000"} | TOPIC,
    "spend": {"Model": "my-model", "SpendPerHour": "20"} | PRICES | TOPIC,
    "session-alarm": {"LogGroup": "/agents", "TokensPerSession": "500000"} | TOPIC,
}


def deploy(name, **given):
    """Return the resources of a stack that has what its template requires, and what is given but None."""
    yaml = pytest.importorskip("cfnlint.decode.cfn_yaml", reason="cfn-lint is not installed")
    template = yaml.load(str(TEMPLATES[name]))
    values = {"AWS::StackName": "stack", "AWS::Region": "eu-west-1"}
    given = {key: value for key, value in (REQUIRED[name] | given).items() if value is not None}
    assert given.keys() <= template["Parameters"].keys()
    for key, rules in template["Parameters"].items():
        values[key] = given.get(key, rules.get("Default"))
        if values[key] is None or not re.fullmatch(rules["AllowedPattern"], values[key]):
            raise ValueError(f"{key}={values[key]}")

    def substitute(text):
        return re.sub(r"\${(\w.*?)}", lambda found: values.get(found[1], found[0]), text).replace("${!", "${")

    def holds(condition):
        return resolve(template["Conditions"][condition])

    functions = {
        "Ref": values.get,
        "Fn::Sub": substitute,
        "Fn::If": lambda condition, yes, no: resolve(yes if holds(condition) else no),
        "Fn::Equals": lambda left, right: resolve(left) == right,
        "Fn::Not": lambda condition: not resolve(condition),
    }

    def resolve(node):
        if isinstance(node, list):
            return [resolve(item) for item in node]
        if not isinstance(node, dict):
            return node
        if len(node) == 1 and (function := functions.get(next(iter(node)))):
            (argument,) = node.values()
            return function(*argument) if isinstance(argument, list) else function(argument)
        return {key: resolve(value) for key, value in node.items()}

    resources = template["Resources"].items()
    created = [(key, one) for key, one in resources if "Condition" not in one or holds(one["Condition"])]
    return {key: resolve(resource["Properties"]) for key, resource in created}


def graphs(stack):
    """Return the graphs on the dashboard of a stack, by title."""
    widgets = json.loads(stack["Dashboard"]["DashboardBody"])["widgets"]
    return {one["properties"]["title"]: one["properties"] for one in widgets if one["type"] == "metric"}


def compute(metrics, usage):
    """Return the value of each id of an alarm or a graph, in an hour with these counters."""
    values = {"FILL": lambda value, filler: filler if value is None else value}
    for metric in metrics:
        fields = metric[-1] if isinstance(metric, list) else {key.lower(): metric[key] for key in metric}
        if name := re.search(r"\b\w+Tokens\b", str(metric)):  # also in a SEARCH
            values[fields["id"]] = usage.get(name[0])
        else:
            formula = fields["expression"]
            assert re.fullmatch(r"([\d\s.()*/+,-]|\b(FILL|total|output|read|write)\b)+", formula)
            values[fields["id"]] = eval(formula, {"__builtins__": {}}, values)  # arithmetic, as just seen
    return values


def spend(usage):
    """Return what the alarm on the spend makes of these counters."""
    return compute(deploy("spend")["SpendAlarm"]["Metrics"], usage)["spend"]
