"""An event in CloudWatch's embedded metric format (EMF), as plain JSON data."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from strands_token_telemetry import checks

if TYPE_CHECKING:
    from collections.abc import Mapping

UNKNOWN = "unknown"

_MAX_VALUE_LENGTH = 1024

# CloudWatch Logs takes 1 MB an event, but until 2025 it took 256 KB, 26 bytes of overhead included, and
# agents and forwarders still enforce that.
# https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutLogEvents.html
_MAX_EVENT_BYTES = 256 * 1024 - 26

# Values of properties that have this many characters in all fit, because a character takes at most 12 bytes
# of JSON. Only larger ones are measured.
_ALWAYS_FITS = 16 * 1024


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

    It changes none of its arguments and shares no mutable part with them.

    Args:
        usage: 1 to 100 counters, from -2**360 to 2**360. Each becomes a metric of its name, with the unit
            `Count`.
        namespace: CloudWatch namespace: 1 to 255 printable ASCII characters, not blank, not starting with
            `:` or `AWS/`.
        dimensions: Dimension sets, such as `[["Model"], ["Model", "Environment"]]`: at least one (`[[]]`
            for no dimensions), each of at most 30 names. A name has 1 to 250 printable ASCII characters,
            is not blank, does not start with `:`, and is neither `_aws` nor the name of a counter. No set
            and no name in a set appears twice.
        dimension_values: A value for each name in `dimensions`. If it is missing or `None`, the property
            of that name is used, and otherwise `"unknown"`. Values become strings of 1 to 1,024 printable
            ASCII characters: other characters, and backslashes, are written as Python escapes, longer
            values are cut, and blank ones become `"unknown"`. A value for any other name becomes a
            property.
        extra_properties: Fields that are not metrics; you can query them in Logs Insights. `None` counts as
            missing. Anything that JSON cannot represent becomes a string. If the event would be larger than
            256 KB, short notes take the place of the largest properties. Where names collide, a metric wins
            over a dimension, and a dimension over a property.
        timestamp_ms: Milliseconds since the epoch; now, by default. CloudWatch accepts up to two weeks in the
            past and two hours ahead.

    Returns:
        The event, with `_aws` first.

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
    counters = checks.check_usage(usage)
    return compose(
        counters,
        checks.check_namespace(namespace),
        checks.check_dimensions(dimensions, counters),
        merge_without_none(
            {} if extra_properties is None else checks.check_mapping("extra_properties", extra_properties),
            checks.check_mapping("dimension_values", dimension_values),
        ),
        now_ms() if timestamp_ms is None else checks.check_timestamp(timestamp_ms),
    )


def compose(
    usage: Mapping[str, int | float],
    namespace: str,
    dimensions: list[list[str]],
    fields: Mapping[str, Any],
    timestamp_ms: int,
) -> dict[str, Any]:
    """Compose an EMF event from checked arguments and from fields with any values.

    Fields that are named in `dimensions` become dimension values; the others become properties.
    """
    directive = {
        "Namespace": namespace,
        "Dimensions": [names.copy() for names in dimensions],
        "Metrics": [{"Name": name, "Unit": "Count"} for name in usage],
    }
    payload: dict[str, Any] = {"_aws": {"Timestamp": timestamp_ms, "CloudWatchMetrics": [directive]}}
    for names in dimensions:
        for name in names:
            payload[name] = to_printable(fields.get(name, UNKNOWN))
    payload.update(usage)
    properties, size = [], 0
    for field, value in fields.items():
        if field not in payload:
            name = to_json_data(field)
            payload[name] = data = to_json_data(value)
            properties.append(name)
            size += len(str(data))
    if size > _ALWAYS_FITS:
        _leave_out_the_largest(payload, properties)
    return payload


def to_printable(value: object) -> str:
    """Return any value as 1 to 1,024 printable ASCII characters.

    Other characters, and backslashes, are escaped, so that different values stay different.
    """
    text = value if type(value) is str else str(to_json_data(value))
    if not (text.isascii() and text.isprintable()) or "\\" in text:
        text = text.encode("unicode_escape").decode("ascii")
    text = text[:_MAX_VALUE_LENGTH]
    return text if text.strip() else UNKNOWN


def to_json_data(value: object) -> Any:
    """Return any value as plain JSON data that shares nothing with it."""
    if type(value) is str and value.isascii():  # without this an emission takes three times as long
        return value
    try:
        text = json.dumps(value, default=_list_or_text, ensure_ascii=False)
        # UTF-8 has no lone surrogates, and JSON has neither NaN nor Infinity.
        return json.loads(text.encode(errors="replace"), parse_constant=str)
    except Exception:  # it refers to itself, for example, or has keys that JSON cannot represent
        return _text(value)


def _list_or_text(value: object) -> list[Any] | str:
    return list(value) if isinstance(value, (set, frozenset)) else _text(value)


def _text(value: object) -> str:
    try:
        return str(value)
    except Exception:
        return object.__repr__(value)


def _leave_out_the_largest(payload: dict[str, Any], properties: list[str]) -> None:
    """Replace the largest properties by notes, until the event fits into 256 KB."""
    sizes = {name: len(json.dumps(payload[name])) for name in properties}
    excess = len(json.dumps(payload)) - _MAX_EVENT_BYTES
    for name in sorted(sizes, key=sizes.__getitem__, reverse=True):
        if excess > 0:
            payload[name] = f"({sizes[name]} bytes left out)"
            excess -= sizes[name] - len(json.dumps(payload[name]))


def merge_without_none(*mappings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members of all mappings but for None, which counts as missing; later ones win."""
    return {name: value for values in mappings for name, value in values.items() if value is not None}


def now_ms() -> int:
    """Return the time in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000
