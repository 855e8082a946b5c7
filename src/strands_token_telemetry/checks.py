"""Checks of the arguments. Their messages say what to write instead.

The rules for CloudWatch are those of the EMF specification and, where it is silent, of the CloudWatch API:

- https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
- https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricData.html
- https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_Dimension.html
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping
from typing import Any, TypeVar

_Function = TypeVar("_Function", bound="Callable[..., Any] | None")

TOKEN_METRICS = frozenset(
    {"inputTokens", "outputTokens", "totalTokens", "cacheReadInputTokens", "cacheWriteInputTokens"}
)

_RESOLVERS = {"dimension_values": "dimension_resolver", "extra_properties": "property_resolver"}


def check_namespace(namespace: object) -> str:
    """Return the namespace if CloudWatch accepts it, or raise."""
    if isinstance(namespace, str) and _is_name(namespace, 255) and not namespace.startswith("AWS/"):
        return str.__str__(namespace)  # an Enum of strings gives its text
    error = ValueError if isinstance(namespace, str) else TypeError
    raise error(
        "namespace must be a str of 1 to 255 printable ASCII characters that is not blank and does not "
        f"start with ':' or 'AWS/', got {namespace!r}; write, for example, 'My/Tokens'"
    )


def check_dimensions(dimensions: Any, metrics: Container[str] = TOKEN_METRICS) -> list[list[str]]:
    """Return a copy of the dimension sets if CloudWatch accepts them beside these metrics, or raise."""
    if not _are_lists_of_names(dimensions):
        raise TypeError(
            "dimensions must be a list of dimension sets, each a list of names, "
            f"got {dimensions!r}; {_advice_on(dimensions)}"
        )
    if not dimensions:
        raise ValueError("dimensions must have at least one set, got []; write [[]] for no dimensions")
    for names in dimensions:
        if len(names) > 30:
            raise ValueError(
                f"dimensions must have at most 30 names in a set, got {len(names)}; "
                "pass the others as extra_properties"
            )
        for name in names:
            if not _is_name(name, 250) or name in metrics or name == "_aws":
                raise ValueError(
                    "dimensions must have names of 1 to 250 printable ASCII characters that are not blank, "
                    "do not start with ':' and are neither '_aws' nor the name of a metric, "
                    f"got {name!r}; write another name"
                )
    distinct = {frozenset(names) for names in dimensions}
    if len(distinct) < len(dimensions) or any(len(set(names)) < len(names) for names in dimensions):
        raise ValueError(
            f"dimensions must not repeat a set, or a name in a set, got {dimensions!r}; "
            "list each once; otherwise CloudWatch counts the metric twice"
        )
    return [[str.__str__(name) for name in names] for names in dimensions]


def _are_lists_of_names(dimensions: Any) -> bool:
    return isinstance(dimensions, (list, tuple)) and all(
        isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names)
        for names in dimensions
    )


def _advice_on(dimensions: Any) -> str:
    """Suggest the dimension sets that the user may have meant."""
    names = list(dimensions) if isinstance(dimensions, (list, tuple)) else [dimensions]
    if not all(isinstance(name, str) for name in names):
        return "write, for example, [['Model']]"
    if len(names) == 1:
        return f"write {[names]}"
    return (
        f"write {[names]} for a metric of each combination, or {[[name] for name in names]} for one of each"
    )


def check_mapping(parameter: str, value: object, example: str = "{'Stage': 'prod'}") -> dict[str, Any]:
    """Return a shallow copy of a mapping that has strings as keys and no `_aws`, or raise."""
    if isinstance(value, Mapping):
        members = dict(value)  # a copy first, because another thread may be changing it
        if "_aws" in members:
            raise ValueError(f"{parameter} must not contain '_aws', which EMF reserves; write another name")
        if all(isinstance(name, str) for name in members):
            return members
    advice = f"write, for example, {example}"
    if callable(value) and parameter in _RESOLVERS:
        advice = f"pass a function to TokenUsageHook as {_RESOLVERS[parameter]}"
    raise TypeError(f"{parameter} must be a dict with strings as keys, got {value!r}; {advice}")


def check_function(parameter: str, function: _Function) -> _Function:
    """Refuse classes, async functions and what cannot be called; None is fine."""
    if isinstance(function, type):
        name = function.__name__
        raise TypeError(
            f"{parameter} must be a function, got the class {name}; write {name}(...), an instance"
        )
    if function is not None and (not callable(function) or _is_async(function)):
        raise TypeError(
            f"{parameter} must be a function that is not async, got {function!r}; "
            "write a def that does the work, or puts it in a queue"
        )
    return function


def _is_async(function: Callable[..., Any]) -> bool:
    import inspect  # here, because importing it costs as much as the rest of the package

    return any(map(inspect.iscoroutinefunction, (function, type(function).__call__)))


def check_usage(usage: object) -> dict[str, int | float]:
    """Return a copy of the counters if CloudWatch accepts each as a metric, or raise."""
    example = "{'inputTokens': 12}"
    counters = check_mapping("usage", usage, example)
    if not 1 <= len(counters) <= 100:
        raise ValueError(
            f"usage must have 1 to 100 counters, got {len(counters)}; write, for example, {example}"
        )
    for name, value in counters.items():
        counters[name] = metric_value(value)
        if counters[name] is None or not _is_name(name, 255):
            raise ValueError(
                "usage must map names of 1 to 255 printable ASCII characters to finite numbers of at most "
                f"2**360, got {value!r} for {name!r}; write, for example, {example}"
            )
    return counters


def check_timestamp(timestamp_ms: object) -> int:
    """Return the timestamp if it is an int, or raise."""
    if not isinstance(timestamp_ms, int) or isinstance(timestamp_ms, bool):
        raise TypeError(
            f"timestamp_ms must be an int, milliseconds since the epoch, got {timestamp_ms!r}; "
            "write int(time.time() * 1000)"
        )
    return timestamp_ms


def metric_value(value: object) -> int | float | None:
    """Return a number of any type as the int or float that CloudWatch accepts, or None."""
    if type(value) is not int:
        if isinstance(value, bool) or not hasattr(value, "__float__"):  # numbers of any type have it
            return None
        try:
            number: Any = value
            value = int(number) if int(number) == number else float(number)
        except (ValueError, OverflowError):  # not a number, or infinite
            return None
    return value if abs(value) <= 2**360 else None


def _is_name(text: str, longest: int) -> bool:
    """Tell whether a text is 1 to `longest` printable ASCII characters, not blank, without ':' in front."""
    return len(text) <= longest and re.fullmatch(r"(?!:| *$)[ -~]+", text) is not None
