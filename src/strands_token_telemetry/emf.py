"""CloudWatch's embedded metric format (EMF): its rules, and an event as plain JSON data.

The rules are those of the EMF specification. Where it does not say what CloudWatch takes, they are
those of the CloudWatch API:

- https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
- https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_Dimension.html
- https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricData.html
"""

from __future__ import annotations

import contextlib
import json
import re
import reprlib
import time
from collections.abc import Mapping
from typing import Any

UNKNOWN = "unknown"

TOKEN_METRICS = frozenset(
    {"inputTokens", "outputTokens", "totalTokens", "cacheReadInputTokens", "cacheWriteInputTokens"}
)

_MAX_METRICS = 100
_MAX_METRIC_VALUE = 2**360
_MAX_KEYS_IN_A_SET = 30
_MAX_KEYS = 100  # of all sets together, so that the dimensions fit into an event
_MAX_VALUE_LENGTH = 1024

# CloudWatch Logs takes 1 MB an event, but it took 256 KB until 2025, and agents and forwarders still
# enforce that. 26 bytes of it are overhead.
# https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutLogEvents.html
_MAX_EVENT_LENGTH = 256 * 1024 - 26

_MAX_DEPTH = 100
_MAX_MEMBERS = 100_000  # more do not fit into an event
_HUGE = 2**1024  # more than any float, and fewer digits than Python refuses to print

# Not blank, not starting with a colon. They are compiled when needed, so that the import stays quick.
_NAMESPACE = r"(?!AWS/|:| *\Z)[A-Za-z0-9 ._/#:-]{1,255}"
_KEY = r"(?!_aws\Z|:| *\Z)[ -~]{1,250}"
_METRIC_NAME = r"(?!_aws\Z|:| *\Z)[ -~]{1,255}"

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 100


def build_emf_payload(
    *,
    usage: Mapping[str, int],
    namespace: str,
    dimensions: list[list[str]],
    dimension_values: Mapping[str, str | None],
    extra_properties: Mapping[str, Any] | None = None,
    timestamp_ms: int | None = None,
) -> dict[str, Any]:
    """Build one EMF event as plain JSON data, which any encoder can write.

    Changes none of its arguments, and shares no mutable part with them.

    Args:
        usage: 1 to 100 counters of at most 2**360. Each becomes a metric of its name, with the unit `Count`.
        namespace: CloudWatch namespace: 1 to 255 letters, digits, spaces and `. - _ / # :`. It does
            not start with `:` or `AWS/`.
        dimensions: Dimension sets, such as `[["Model"], ["Model", "Environment"]]`: at least one
            (`[[]]` for metrics without dimensions), each of at most 30 names, and at most 100 names
            in all sets together. A name has 1 to 250 printable ASCII characters and does not start
            with `:`.
        dimension_values: A value for each name in `dimensions`. A value that is missing or `None` is
            looked up in `extra_properties`; if it is not there either, it is `"unknown"`. Values
            become strings of 1 to 1,024 printable ASCII characters: a backslash, and any character that
            is not printable ASCII, is written as Python's escape; longer values are cut; blank ones
            become `"unknown"`. A name that is in no dimension set becomes a property.
        extra_properties: Fields of the event that are no metrics; Logs Insights finds them. What JSON
            does not know goes out as text. If the event would be larger than 256 KB, short notes take
            the place of the largest properties; if that is not enough, the largest are removed. Where
            names collide, a metric wins
            over a dimension, and a dimension over a property.
        timestamp_ms: Milliseconds since the epoch; now, by default. CloudWatch takes two weeks
            back to two hours ahead.

    Returns:
        The event, `_aws` first.

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
    counters = check_mapping("usage", usage, "{'inputTokens': 12}")
    if not 1 <= len(counters) <= _MAX_METRICS:
        raise ValueError(
            f"usage must have 1 to {_MAX_METRICS} counters, got {len(counters)}; "
            "write, for example, {'inputTokens': 12}"
        )
    for name, value in counters.items():
        counters[name] = metric_value(name, value)
        if counters[name] is None:
            raise (ValueError if isinstance(value, (int, float)) else TypeError)(
                "usage must give finite numbers of at most 2**360 by names of 1 to 255 printable ASCII "
                f"characters, got {shown(value)} for {shown(name)}; write, for example, {{'inputTokens': 12}}"
            )
    if timestamp_ms is not None and type(timestamp_ms) is not int:
        raise TypeError(
            f"timestamp_ms must be an int, milliseconds since the epoch, got {shown(timestamp_ms)}; "
            "write int(time.time() * 1000)"
        )
    return compose(
        counters,
        check_namespace(namespace),
        check_dimensions(dimensions),
        check_properties("dimension_values", dimension_values),
        {} if extra_properties is None else check_properties("extra_properties", extra_properties),
        time.time_ns() // 1_000_000 if timestamp_ms is None else timestamp_ms,
    )


def compose(
    usage: Mapping[str, int | float],
    namespace: str,
    dimensions: list[list[str]],
    dimension_values: Mapping[str, Any],
    properties: Mapping[str, Any],
    timestamp_ms: int,
) -> dict[str, Any]:
    """Build an EMF event from counters and settings that this module has checked, and any values."""
    directive = {
        "Namespace": namespace,
        "Dimensions": [keys.copy() for keys in dimensions],
        "Metrics": [{"Name": name, "Unit": "Count"} for name in usage],
    }
    payload: dict[str, Any] = {"_aws": {"Timestamp": timestamp_ms, "CloudWatchMetrics": [directive]}}
    for keys in dimensions:
        for key in keys:
            if key not in payload:
                value = dimension_values.get(key)
                payload[key] = dimension_text(properties.get(key) if value is None else value)
    distinct = len(payload) + len(usage)
    payload.update(usage)
    if len(payload) < distinct:
        # A counter that Strands did not have when the dimensions were checked. The count matters more:
        # the name leaves its sets, and sets that are then the same become one.
        fewer = ([key for key in keys if key not in usage] for keys in dimensions)
        directive["Dimensions"] = list({frozenset(keys): keys for keys in fewer}.values())
    needed = len(payload)
    length = 0
    for members in (dimension_values, properties):
        for name, value in members.items():
            if payload.get(name) is None:  # missing, or a dimension value of None
                payload[name] = member = plain(value)
                length += len(name) + len(repr(member))
    # An upper limit: a character takes at most 12 bytes of JSON, a counter or a dimension less than 4,096.
    if 12 * length + 4096 * needed > _MAX_EVENT_LENGTH:
        _leave_out(payload, list(payload)[needed:])
    return payload


def _leave_out(payload: dict[str, Any], names: list[str]) -> None:
    """Put notes in place of the largest properties, then remove the largest, until the event fits.

    The sizes are those of `json.dumps`, which writes more than compact JSON.
    """
    sizes = {name: len(json.dumps(name)) + len(json.dumps(payload[name])) + 4 for name in names}
    excess = len(json.dumps(payload)) - _MAX_EVENT_LENGTH
    largest_first = sorted(sizes, key=sizes.__getitem__, reverse=True)
    for name in largest_first:
        note = f"({sizes[name]} bytes left out)"
        saved = sizes[name] - len(json.dumps(name)) - len(note) - 6
        if excess > 0 and saved > 0:
            payload[name] = note
            sizes[name] -= saved
            excess -= saved
    for name in largest_first:
        if excess > 0:
            del payload[name]
            excess -= sizes[name]


def metric_value(name: Any, value: Any) -> int | float | None:
    """Return `value` as CloudWatch takes it for a metric of this name, or None if it does not.

    Numbers of other types than int and float (of NumPy, `Decimal`) are converted.
    """
    if type(value) is int and name in TOKEN_METRICS and 0 <= value <= _MAX_METRIC_VALUE:
        return value  # the usual case
    number: int | float | None = None
    with contextlib.suppress(Exception):  # no number, or a name that is no string
        if not isinstance(value, (bool, str, bytes, bytearray)) and re.fullmatch(_METRIC_NAME, name):
            whole = int(value)
            number = whole if whole == value else float(value)
    return number if number is not None and abs(number) <= _MAX_METRIC_VALUE else None


def dimension_text(value: Any) -> str:
    """Return `value` as a string that CloudWatch takes as a dimension value.

    Printable ASCII without a backslash stays as it is. Anything else goes out in Python's escaped
    form, so that different values stay different up to the limit of 1,024 characters.
    """
    try:
        text = UNKNOWN if value is None else _exact(value)
    except Exception:
        return UNKNOWN
    if not (text.isascii() and text.isprintable()) or "\\" in text:
        text = text.encode("unicode_escape").decode("ascii")
    text = text[:_MAX_VALUE_LENGTH]
    return UNKNOWN if not text or text.isspace() else text


def plain(value: Any, parents: tuple[int, ...] = (), room: list[int] | None = None) -> Any:
    """Return `value` as plain JSON data that shares nothing with it.

    A tuple or a set becomes a list. What JSON does not know becomes text: an object, NaN, a key that
    is no string. A note takes the place of what is circular, nested over 100 deep, or too large.
    """
    try:
        if value is None or value is True or value is False or (type(value) is str and value.isascii()):
            return value
        if isinstance(value, (int, float)):
            number = float(value) if isinstance(value, float) else int(value)
            if -_HUGE < number < _HUGE:  # neither NaN nor infinite
                return number
        elif isinstance(value, (dict, list, tuple, set, frozenset)):
            room = [_MAX_MEMBERS] if room is None else room
            room[0] -= 1 + len(value)
            if id(value) not in parents and len(parents) < _MAX_DEPTH and room[0] >= 0:
                parents = (*parents, id(value))
                if isinstance(value, dict):
                    return {_text(name): plain(item, parents, room) for name, item in dict(value).items()}
                return [plain(item, parents, room) for item in list(value)]
            return "(circular, nested too deeply, or too large)"
    except Exception:  # changed meanwhile by another thread, or odd in its own way
        pass
    return _text(value)


def _text(value: Any) -> str:
    """Return the text of any object. A lone surrogate in it is escaped, for it is no valid UTF-8."""
    try:
        text = value if type(value) is str else _exact(value)
        return text if text.isascii() else text.encode(errors="backslashreplace").decode()
    except Exception:
        return object.__repr__(value)


def _exact(value: Any) -> str:
    """Return `str(value)`, and of a `str` of any class, such as an Enum, the text itself."""
    # type(): isinstance() would believe the __class__ of a proxy.
    return str.__str__(value if issubclass(type(value), str) else str(value))


def check_namespace(namespace: object) -> str:
    """Return `namespace` if CloudWatch takes it, or raise an error that says what to write."""
    if not isinstance(namespace, str) or not re.fullmatch(_NAMESPACE, namespace):
        raise (ValueError if isinstance(namespace, str) else TypeError)(
            "namespace must be a str of 1 to 255 letters, digits, spaces and . - _ / # : that is not blank "
            f"and doesn't start with ':' or 'AWS/', got {shown(namespace)}; write, for example, 'My/Tokens'"
        )
    return _exact(namespace)


def check_dimensions(dimensions: Any) -> list[list[str]]:
    """Return a copy of `dimensions` if CloudWatch takes them, or raise an error that says what to write."""
    sets = dimensions if isinstance(dimensions, (list, tuple)) else [dimensions]
    keys = [key for keys in sets if isinstance(keys, (list, tuple)) for key in keys]
    if not all(isinstance(keys, (list, tuple)) for keys in sets) or not all(
        isinstance(key, str) for key in keys
    ):
        advice = [[*sets]] if all(isinstance(key, str) for key in sets) else [["Model"]]
        raise TypeError(
            f"dimensions must be a list of dimension sets, each a list of names, got {shown(dimensions)}; "
            f"write {shown(advice)}"
        )
    if not sets:
        raise ValueError("dimensions must have at least one set, got []; write [[]] for no dimensions")
    for key in keys:
        if not re.fullmatch(_KEY, key) or key in TOKEN_METRICS:
            raise ValueError(
                "dimensions must have names of 1 to 250 printable ASCII characters that are not blank, don't "
                f"start with ':' and are no token metric or '_aws', got {shown(key)}; write another name"
            )
    sizes = [len(keys) for keys in sets]
    if max(sizes) > _MAX_KEYS_IN_A_SET or sum(sizes) > _MAX_KEYS:
        raise ValueError(
            f"dimensions may have at most {_MAX_KEYS_IN_A_SET} names in a set and {_MAX_KEYS} in all sets "
            f"together, got {max(sizes)} and {sum(sizes)}; pass the others as extra_properties"
        )
    if [len(set(keys)) for keys in sets] != sizes or len(set(map(frozenset, sets))) < len(sets):
        raise ValueError(
            f"dimensions must not have a set, or a name in a set, twice, got {shown(dimensions)}; "
            "write each once, for CloudWatch would count a metric twice"
        )
    return [[_exact(key) for key in keys] for keys in sets]


def check_mapping(parameter: str, value: object, example: str = "{'Environment': 'prod'}") -> dict[str, Any]:
    """Return a copy of `value` if it is a mapping with strings as keys, or raise a TypeError."""
    if isinstance(value, Mapping):
        members = dict(value)  # a copy first: another thread may be changing it
        if all(isinstance(name, str) for name in members):
            return {_text(name): member for name, member in members.items()}
    raise TypeError(
        f"{parameter} must be a dict with strings as keys, got {shown(value)}; write, for example, {example}"
    )


def check_properties(parameter: str, value: object) -> dict[str, Any]:
    """Return a copy of `value`, its dicts, lists and sets too, if it can be fields of an event, or raise."""
    members = check_mapping(parameter, value)
    if "_aws" in members:
        raise ValueError(f"{parameter} may not contain '_aws', which is EMF's own; write another name")
    copied = (dict, list, set)
    return {name: plain(v) if issubclass(type(v), copied) else v for name, v in members.items()}


def shown(value: object) -> str:
    """Return a short repr of any object, for a message."""
    try:
        return _repr.repr(value)
    except Exception:  # a number of more digits than Python prints, for example
        return object.__repr__(value)
