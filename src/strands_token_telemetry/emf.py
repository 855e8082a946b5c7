"""CloudWatch's embedded metric format (EMF): its rules, and an event as a dict. Pure, but for the clock.

The rules are those of the EMF specification and, where it is silent on what CloudWatch takes, of
the CloudWatch API:

- https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
- https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_Dimension.html
- https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricData.html
"""

from __future__ import annotations

import re
import reprlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

METADATA = "_aws"
UNKNOWN = "unknown"

TOKEN_METRICS = frozenset(
    {
        "inputTokens",
        "outputTokens",
        "totalTokens",
        "cacheReadInputTokens",
        "cacheWriteInputTokens",
    }
)

_MAX_NAMESPACE_LENGTH = 255
_MAX_KEYS_IN_A_SET = 30
_MAX_KEY_LENGTH = 250
_MAX_VALUE_LENGTH = 1024
_MAX_METRICS = 100
_MAX_METRIC_NAME_LENGTH = 255
_MAX_METRIC_VALUE = 2**360

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 100

_CONTAINERS = (dict, list, tuple, set, bytearray)
_MAX_DEPTH = 100
_MAX_CONTAINERS = 10_000

# CloudWatch Logs takes 1 MB an event, but 256 KB until 2025, which agents and forwarders still
# enforce; 26 bytes of it are overhead.
# https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutLogEvents.html
MAX_EVENT_LENGTH = 256 * 1024 - 26

# What unicode_escape writes for a character that it escapes. ASCII text in which this occurs is
# escaped too; otherwise "é" and the four characters "\xe9" would become one dimension value.
_ESCAPE = re.compile(r"\\[\\tnrxuU]")


def build_emf_payload(
    *,
    usage: Mapping[str, int],
    namespace: str,
    dimensions: list[list[str]],
    dimension_values: Mapping[str, str | None],
    extra_properties: Mapping[str, Any] | None = None,
    timestamp_ms: int | None = None,
) -> dict[str, Any]:
    """Build one EMF event. Changes none of its arguments and shares no container with them.

    Args:
        usage: 1 to 100 counters; each becomes a metric of its name with the unit `Count`.
        namespace: CloudWatch namespace: 1 to 255 printable ASCII characters, not starting with
            `:` or `AWS/`.
        dimensions: Dimension sets, such as `[["Model"], ["Model", "Environment"]]`: at least one
            (`[[]]` for metrics without dimensions), each of at most 30 keys; a key has 1 to 250
            printable ASCII characters and does not start with `:`.
        dimension_values: A value for each key in `dimensions`. It becomes a string of 1 to 1,024
            printable ASCII characters: others are escaped as Python does, longer ones are cut,
            blank ones become `"unknown"`. A missing value, or `None`, is looked up in
            `extra_properties`; failing that it is `"unknown"`. A key that is in no dimension set
            becomes a property.
        extra_properties: Members of the event that are no metrics; Logs Insights finds them.
            On a collision of names a metric wins over a dimension, and a dimension over a property.
        timestamp_ms: Milliseconds since the epoch; now, by default. CloudWatch takes two weeks
            back to two hours ahead.

    Returns:
        The event as a dict, `_aws` first. Dicts, lists, tuples and sets in properties are copied;
        any other object is passed as it is.

    Raises:
        TypeError: An argument has the wrong type. The message names it and says what to write.
        ValueError: An argument breaks one of the rules above.

    Example:
        >>> from strands_token_telemetry import build_emf_payload
        >>> event = build_emf_payload(
        ...     usage={"inputTokens": 12, "outputTokens": 5},
        ...     namespace="MyTeam/Tokens",
        ...     dimensions=[["Model"]],
        ...     dimension_values={"Model": "claude-sonnet-4"},
        ... )
        >>> event["Model"], event["inputTokens"]
        ('claude-sonnet-4', 12)
    """
    usage = check_mapping("usage", usage, "{'inputTokens': 12}")
    if not 1 <= len(usage) <= _MAX_METRICS:
        raise ValueError(
            f"usage must have 1 to {_MAX_METRICS} counters, got {len(usage)}; "
            "write, for example, {'inputTokens': 12}"
        )
    for name, value in usage.items():
        if not is_metric(name, value):
            raise (ValueError if isinstance(value, (int, float)) else TypeError)(
                f"usage must give finite numbers by names of 1 to {_MAX_METRIC_NAME_LENGTH} printable ASCII "
                f"characters, got {shown(value)} for {shown(name)}; write, for example, {{'inputTokens': 12}}"
            )
    if timestamp_ms is not None and (not isinstance(timestamp_ms, int) or isinstance(timestamp_ms, bool)):
        raise TypeError(
            f"timestamp_ms must be an int, milliseconds since the epoch, got {shown(timestamp_ms)}; "
            "write int(time.time() * 1000)"
        )
    return compose(
        usage,
        check_namespace(namespace),
        check_dimensions(dimensions),
        check_properties("dimension_values", dimension_values),
        {} if extra_properties is None else check_properties("extra_properties", extra_properties),
        time.time_ns() // 1_000_000 if timestamp_ms is None else timestamp_ms,
    )


def compose(
    usage: Mapping[str, int],
    namespace: str,
    dimensions: list[list[str]],
    dimension_values: Mapping[str, Any],
    properties: Mapping[str, Any],
    timestamp_ms: int,
) -> dict[str, Any]:
    """Build an EMF event from arguments that have passed the checks of this module."""
    directive = {
        "Namespace": namespace,
        "Dimensions": [keys.copy() for keys in dimensions],
        "Metrics": [{"Name": name, "Unit": "Count"} for name in usage],
    }
    payload: dict[str, Any] = {
        METADATA: {
            "Timestamp": timestamp_ms,
            "CloudWatchMetrics": [directive],
        },
    }
    for keys in dimensions:
        for key in keys:
            if key in payload:
                continue
            if key in usage:
                # A counter that Strands did not have when the dimensions were checked. The count
                # matters more, and a dimension must be a string: the key leaves its sets, and sets
                # that are the same then become one.
                left = ([k for k in keys if k not in usage] for keys in dimensions)
                directive["Dimensions"] = list({frozenset(keys): keys for keys in left}.values())
                continue
            value = dimension_values.get(key)
            payload[key] = dimension_text(properties.get(key) if value is None else value)
    payload.update(usage)
    for members in (dimension_values, properties):
        for name, value in members.items():
            if name not in payload:
                payload[name] = copied(value)
    return payload


def is_metric(name: object, value: object) -> bool:
    """Say whether CloudWatch takes `value` as the value of a metric of this name."""
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and -_MAX_METRIC_VALUE <= value <= _MAX_METRIC_VALUE  # False for NaN
        and isinstance(name, str)
        and _is_name(name, _MAX_METRIC_NAME_LENGTH)
        and name != METADATA
    )


def dimension_text(value: Any) -> str:
    """Return `value` as a string that CloudWatch takes as a dimension value.

    Printable ASCII stays as it is; anything else goes out in Python's escaped form, so that distinct
    values stay distinct up to the limit of 1,024 characters, where they are cut.
    """
    if value is None:
        return UNKNOWN
    try:
        text = _plain(value) if isinstance(value, str) else str(value)
    except Exception:
        return UNKNOWN
    if not (text.isascii() and text.isprintable()) or ("\\" in text and _ESCAPE.search(text)):
        text = text.encode("unicode_escape").decode("ascii")
    text = text[:_MAX_VALUE_LENGTH]
    return text if text.strip() else UNKNOWN


def copied(value: Any) -> Any:
    """Return `value` with its dicts, lists, tuples and sets copied, and any other object as it is.

    A circular reference, what is nested more than 100 deep and what comes after 10,000 containers
    becomes a text that says so: json could not encode it, or would take for ever.
    """
    return _copied(value, (), iter(range(_MAX_CONTAINERS))) if isinstance(value, _CONTAINERS) else value


def _copied(value: Any, parents: tuple[int, ...], budget: Iterator[int]) -> Any:
    if not isinstance(value, _CONTAINERS):
        return value
    if id(value) in parents or len(parents) == _MAX_DEPTH or next(budget, None) is None:
        return "(circular reference)" if id(value) in parents else "(nested too deeply)"
    parents = (*parents, id(value))
    try:
        if isinstance(value, dict):
            return {key: _copied(item, parents, budget) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            items = [_copied(item, parents, budget) for item in value]
            return tuple(items) if isinstance(value, tuple) else items
        return value.copy()
    except Exception:  # changed meanwhile by another thread, or odd in its own way
        return value


def check_namespace(namespace: object) -> str:
    """Return `namespace` if CloudWatch takes it.

    Raises:
        TypeError: It is not a string.
        ValueError: CloudWatch would refuse it.
    """
    if not isinstance(namespace, str):
        raise TypeError(
            f"namespace must be a str, got {shown(namespace)}; write, for example, 'MyTeam/Tokens'"
        )
    if not _is_name(namespace, _MAX_NAMESPACE_LENGTH) or namespace.startswith("AWS/"):
        raise ValueError(
            f"namespace must have 1 to {_MAX_NAMESPACE_LENGTH} printable ASCII characters, not only spaces, "
            f"and not start with ':' or 'AWS/', got {shown(namespace)}; write, for example, 'MyTeam/Tokens'"
        )
    return _plain(namespace)


def check_dimensions(dimensions: object) -> list[list[str]]:
    """Return a copy of `dimensions` if they are dimension sets that CloudWatch takes.

    Raises:
        TypeError: They are not a list of lists of strings.
        ValueError: CloudWatch would refuse a key or a set, or publish a metric twice.
    """
    sets = dimensions if isinstance(dimensions, (list, tuple)) else ["Model"]
    if not all(isinstance(keys, (list, tuple)) for keys in sets):
        advice = [sets] if all(isinstance(key, str) for key in sets) else [["Model"]]
        raise TypeError(
            f"dimensions must be a list of dimension sets, each a list of names, got {shown(dimensions)}; "
            f"write {shown(advice)}"
        )
    if not sets:
        raise ValueError("dimensions must have at least one set, got []; write [[]] for no dimensions")
    seen = set()
    for keys in sets:
        for key in keys:
            _check_dimension_key(key)
        if len(keys) > _MAX_KEYS_IN_A_SET:
            raise ValueError(
                f"dimensions may have at most {_MAX_KEYS_IN_A_SET} names in a set, got {len(keys)}; "
                "pass the others as extra_properties"
            )
        combination = frozenset(keys)
        if len(combination) < len(keys) or combination in seen:
            raise ValueError(
                f"dimensions name something twice in {shown(keys)}, which publishes a metric twice; "
                "write each set, and each name in a set, once"
            )
        seen.add(combination)
    # At worst every character of a value is escaped, to two; 2 KB are for the rest of the event.
    length = 2048 + sum(len(key) + 3 for keys in sets for key in keys)
    length += sum(len(key) + 6 + 2 * _MAX_VALUE_LENGTH for key in set().union(*sets))
    if length > MAX_EVENT_LENGTH:
        raise ValueError(
            f"dimensions must leave an event under 256 KB, got sets that may take {length} bytes; "
            "write fewer, and pass the others as extra_properties"
        )
    return [[_plain(key) for key in keys] for keys in sets]


def _check_dimension_key(key: object) -> None:
    if not isinstance(key, str):
        raise TypeError(
            f"dimensions must have strings as names, got {shown(key)}; write, for example, 'Model'"
        )
    if not _is_name(key, _MAX_KEY_LENGTH):
        raise ValueError(
            f"dimensions must have names of 1 to {_MAX_KEY_LENGTH} printable ASCII characters, not only "
            f"spaces, that do not start with ':', got {shown(key)}; write, for example, 'Model'"
        )
    if key in TOKEN_METRICS or key == METADATA:
        raise ValueError(
            f"dimensions may not contain {shown(key)}, a member that each event has; write another name"
        )


def _is_name(text: str, length: int) -> bool:
    return (
        0 < len(text) <= length
        and text.isascii()
        and text.isprintable()
        and not text.isspace()
        and not text.startswith(":")
    )


def check_mapping(parameter: str, value: object, example: str = "{'Environment': 'prod'}") -> dict[str, Any]:
    """Return a copy of `value` if it is a mapping with string keys.

    Raises:
        TypeError: It is not; the message names the parameter.
    """
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise TypeError(
            f"{parameter} must be a dict with strings as keys, got {shown(value)}; "
            f"write, for example, {example}"
        )
    return {_plain(key): item for key, item in value.items()}


def check_properties(parameter: str, value: object) -> dict[str, Any]:
    """Return a copy of `value` if it is a mapping that can become members of an event.

    Raises:
        TypeError: It is not a mapping with string keys; the message names the parameter.
        ValueError: It has a member `_aws`.
    """
    members = check_mapping(parameter, value)
    if METADATA in members:
        raise ValueError(f"{parameter} may not contain '{METADATA}', which is EMF's own; write another name")
    return {name: copied(item) for name, item in members.items()}


def _plain(text: str) -> str:
    """Return the text of a `str`, of a str Enum too, as json writes it."""
    return str.__str__(text)


def shown(value: object) -> str:
    """Return a short repr, of an object too whose own raises."""
    try:
        return _repr.repr(value)
    except Exception:
        return object.__repr__(value)
