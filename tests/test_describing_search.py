"""Whatever the resolvers return, the event is valid, and plain JSON data in it stays as it is."""

import datetime as dt
import io
import json
import sys
from types import SimpleNamespace
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import Colour, checked, counters
from strands_token_telemetry import TokenUsageHook

USAGE = {"inputTokens": 11, "outputTokens": 7, "totalTokens": 18, "cacheReadInputTokens": 3}


class Mute:
    def __repr__(self):
        raise RuntimeError("no text")


# Any value. The text has every character, lone surrogates and control characters included.

ANY_TEXT = st.text(st.characters(categories=["L", "M", "N", "P", "S", "Z", "C"]), max_size=60)
USUAL = st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT | st.binary(max_size=20)
NUMBER = st.complex_numbers() | st.decimals() | st.fractions()
OBJECT = st.uuids() | st.datetimes(timezones=st.just(dt.timezone.utc)) | st.builds(Mute)
ODD = st.sampled_from([Colour.RED, object(), int, len, ..., range(3), ValueError("x"), Mute])


def circular(value):
    loop = [value]
    loop.append({"again": loop})
    return loop


def containers(inner):
    lists = st.lists(inner, max_size=4) | st.tuples(inner, inner) | st.builds(circular, inner)
    mappings = st.dictionaries(USUAL | st.tuples(USUAL), inner, max_size=4)
    return lists | st.sets(USUAL, max_size=4) | mappings


VALUE = st.recursive(USUAL | NUMBER | OBJECT | ODD, containers, max_leaves=8)
NAME = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=250).filter(
    lambda name: name not in {*USAGE, "Model"}
)


def is_plain_json(value):
    """Tell whether JSON gives the value back as it is."""
    try:
        return json.loads(json.dumps(value, allow_nan=False, ensure_ascii=False).encode()) == value
    except Exception:
        return False


@settings(max_examples=8 * settings.default.max_examples)
@given(VALUE, st.dictionaries(NAME, VALUE, max_size=6))
def test_any_value_gives_a_valid_event_with_the_right_counts(dimension, properties):
    hook = TokenUsageHook(
        dimension_resolver=lambda event: {"Model": dimension}, property_resolver=lambda event: properties
    )
    metrics = SimpleNamespace(accumulated_usage=dict(USAGE))
    with patch.object(sys, "stdout", io.StringIO()) as stdout:
        hook._on_after_invocation(SimpleNamespace(result=SimpleNamespace(metrics=metrics)))
    _, line, _ = stdout.getvalue().split("\n")
    event = checked(line)
    assert counters(event) == USAGE
    assert event.keys() >= {name for name, value in properties.items() if value is not None}
    unchanged = {
        name: value for name, value in properties.items() if value is not None and is_plain_json(value)
    }
    assert {name: event[name] for name in unchanged} == unchanged
