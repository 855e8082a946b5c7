"""CloudWatch's rules for an EMF event, stated once and applied to every line that the tests see.

Written from the specification alone, with nothing of the package, so that an error there is not
repeated here:
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

import json
import time
from typing import NamedTuple

DAY_MS = 24 * 60 * 60 * 1000


class Datum(NamedTuple):
    """One metric value as CloudWatch would store it."""

    namespace: str
    dimensions: dict[str, str]
    metric: str
    value: float


class InvalidEventError(AssertionError):
    """The line is not a valid EMF event. The message begins with the name of the broken rule."""


def extract(line: str) -> list[Datum]:
    """Return what CloudWatch extracts from a log event, or raise `InvalidEventError`."""
    root = parse(line)
    metadata = root.get("_aws")
    _rule("metadata", isinstance(metadata, dict), metadata)
    timestamp = metadata.get("Timestamp")
    _rule("timestamp type", type(timestamp) is int, timestamp)
    now = time.time() * 1000
    _rule("timestamp range", now - 14 * DAY_MS < timestamp < now + DAY_MS / 12, timestamp)
    directives = metadata.get("CloudWatchMetrics")
    _rule("directives", isinstance(directives, list) and directives, directives)
    return [datum for directive in directives for datum in _extract_directive(root, directive)]


def parse(line: str) -> dict:
    """Return the JSON object on a line, or raise `InvalidEventError`."""
    _rule("one line", line == line.strip() and "\n" not in line and "\r" not in line, line)
    _rule("size", len(line.encode()) + 26 <= 256 * 1024, len(line))
    try:
        root = json.loads(line, object_pairs_hook=_object)
        json.dumps(root, ensure_ascii=False, allow_nan=False).encode()  # neither NaN nor a lone surrogate
    except ValueError as error:
        raise InvalidEventError(f"JSON: {error}: {line[:200]}") from error
    _rule("object", isinstance(root, dict), root)
    return root


def _object(pairs: list[tuple]) -> dict:
    _rule("member twice", len(dict(pairs)) == len(pairs), pairs)
    return dict(pairs)


def _extract_directive(root: dict, directive: dict) -> list[Datum]:
    namespace = directive.get("Namespace")
    _rule("namespace", _printable(namespace, 255) and not namespace.startswith((":", "AWS/")), namespace)
    sets = directive.get("Dimensions")
    _rule("dimensions type", isinstance(sets, list), sets)
    _rule("dimension sets", len(sets) >= 1, sets)
    for keys in sets:
        _rule("dimension set type", isinstance(keys, list), keys)
        _rule("dimension set size", len(keys) <= 30, keys)
        for key in keys:
            _rule("dimension key", _printable(key, 250) and not key.startswith(":"), key)
            _rule("dimension value", _printable(root.get(key), 1024), root.get(key))
    _rule("dimension sets twice", len({frozenset(keys) for keys in sets}) == len(sets), sets)
    _rule("dimension key twice", all(len(set(keys)) == len(keys) for keys in sets), sets)
    metrics = directive.get("Metrics")
    _rule("metrics type", isinstance(metrics, list) and all(isinstance(m, dict) for m in metrics), metrics)
    _rule("metrics number", 1 <= len(metrics) <= 100, len(metrics))
    names = [metric.get("Name") for metric in metrics]
    _rule("metric twice", len(set(names)) == len(names), names)
    for metric in metrics:
        name, value = metric.get("Name"), root.get(metric.get("Name"))
        _rule("metric name", _printable(name, 255), name)
        _rule("metric unit", metric.get("Unit") == "Count", metric)
        _rule("metric value type", isinstance(value, (int, float)) and not isinstance(value, bool), value)
        _rule("metric value range", abs(value) <= 2**360, value)
    values = [{key: root[key] for key in keys} for keys in sets]
    return [Datum(namespace, dimensions, name, root[name]) for dimensions in values for name in names]


def _printable(text: object, length: int) -> bool:
    if not isinstance(text, str) or not 1 <= len(text) <= length:
        return False
    return text.isascii() and text.isprintable() and not text.isspace()


def _rule(name: str, kept: object, found: object) -> None:
    if not kept:
        raise InvalidEventError(f"{name}: {found!r}")
