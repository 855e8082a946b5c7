"""docs/cloudwatch.yaml as CloudFormation resolves it, and CloudWatch's metric math as Python."""

import re
from pathlib import Path

import pytest

TEMPLATE = Path(__file__).parents[1] / "docs/cloudwatch.yaml"
PRICES = {"InputPrice": "3", "OutputPrice": "15", "CacheReadPrice": "0.3", "CacheWritePrice": "3.75"}


def deploy(**parameters):
    """Return the resources of a stack that is deployed with these parameters."""
    yaml = pytest.importorskip("cfnlint.decode.cfn_yaml", reason="cfn-lint is not installed")
    template = yaml.load(str(TEMPLATE))
    values = {name: str(parameter["Default"]) for name, parameter in template["Parameters"].items()}
    for name, value in parameters.items():
        assert re.fullmatch(template["Parameters"][name].get("AllowedPattern", ".*"), value), (name, value)
    values |= {"AWS::StackName": "stack", "AWS::Region": "eu-west-1", "AWS::NoValue": None, **parameters}

    def substitute(text, names=()):
        known = values | resolve(dict(names))
        return re.sub(r"\$\{(?!!)(.*?)\}", lambda found: known[found[1]], text).replace("${!", "${")

    def holds(condition):
        return resolve(template["Conditions"][condition])

    functions = {
        "Ref": values.get,
        "Condition": holds,
        "Fn::Sub": substitute,
        "Fn::If": lambda condition, yes, no: resolve(yes if holds(condition) else no),
        "Fn::Equals": lambda left, right: resolve(left) == resolve(right),
        "Fn::Not": lambda condition: not resolve(condition),
        "Fn::And": lambda *conditions: all(map(resolve, conditions)),
    }

    def resolve(node):
        if isinstance(node, list):
            return [resolve(item) for item in node]
        if not isinstance(node, dict):
            return node
        if len(node) == 1 and (function := functions.get(next(iter(node)))):
            (argument,) = node.values()
            return function(*argument) if isinstance(argument, list) else function(argument)
        return {name: resolve(value) for name, value in node.items()}

    return {
        name: resolve(resource["Properties"])
        for name, resource in template["Resources"].items()
        if "Condition" not in resource or holds(resource["Condition"])
    }


def value_of(expression, usage):
    """Return the value of an expression on these counters. A cache may be missing."""
    names = {"total": usage["totalTokens"], "output": usage["outputTokens"]}
    names |= {"read": usage.get("cacheReadInputTokens"), "write": usage.get("cacheWriteInputTokens")}
    names["FILL"] = lambda value, filler: filler if value is None else value
    assert re.fullmatch(r"([\d\s.()*/+,-]|\b(FILL|total|output|read|write)\b)+", expression)
    return eval(expression, {"__builtins__": {}}, names)  # arithmetic, as just seen


def spend(usage):
    """Return what the alarm on the spend makes of these counters."""
    return value_of(deploy(Model="my-model", **PRICES)["SpendAlarm"]["Metrics"][-1]["Expression"], usage)
