"""Whatever the constructor takes gives valid events with the right counts. It refuses the rest by name."""

import datetime as dt
import io
import json
import sys
from types import SimpleNamespace
from unittest.mock import patch

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from emf_checker import extract, parse
from helpers import Colour, Mute, MuteText
from strands_token_telemetry import TokenUsageHook, build_emf_payload

USAGE = {"inputTokens": 11, "outputTokens": 7, "totalTokens": 18, "cacheReadInputTokens": 3}


def circular(value):
    loop = [value]
    loop.append({"again": loop})
    return loop


# Any value. The text has every character, lone surrogates and control characters included.

ANY_TEXT = st.text(st.characters(categories=["L", "M", "N", "P", "S", "Z", "C"]), max_size=60)
UTF_8 = st.text(max_size=60)
USUAL = (
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT | st.binary(max_size=20) | st.dates()
)
MORE_DIGITS_THAN_STR_TAKES = st.builds(pow, st.just(10), st.just(5000))
NUMBER = st.complex_numbers() | st.decimals() | st.fractions() | MORE_DIGITS_THAN_STR_TAKES
OBJECT = st.builds(Mute) | st.builds(MuteText) | st.builds(io.StringIO) | st.builds(bytearray, st.binary())
UNUSUAL = NUMBER | OBJECT | st.uuids() | st.datetimes(timezones=st.just(dt.timezone.utc))
ODD = st.sampled_from([Colour.RED, object(), int, len, ..., range(3), ValueError("x"), Mute])


def containers(inner):
    lists = st.lists(inner, max_size=4) | st.tuples(inner, inner) | st.builds(circular, inner)
    sets = st.sets(USUAL, max_size=4) | st.frozensets(USUAL, max_size=4)
    mappings = st.dictionaries(USUAL | st.tuples(USUAL), inner, max_size=4)
    return lists | sets | mappings | st.builds(SimpleNamespace, value=inner)


VALUE = st.recursive(USUAL | UNUSUAL | ODD, containers, max_leaves=8)
ANYTHING = (
    USUAL | ODD | st.lists(USUAL) | st.dictionaries(USUAL, USUAL) | st.functions(like=lambda event: None)
)

# A configuration: mostly what the constructor takes.

NAMES = ["Model", "AgentName", "Stage", "inputTokens", "_aws", ":x", "", " ", "é", "x" * 251]
NAME = st.sampled_from(NAMES) | ANY_TEXT
ASCII = st.characters(codec="ascii", categories=["L", "N", "P", "S"])
GOOD_NAME = st.text(ASCII, min_size=1, max_size=250).filter(
    lambda name: not name.startswith(":") and name not in {*USAGE, "cacheWriteInputTokens", "Model", "_aws"}
)
SET = st.lists(GOOD_NAME | st.sampled_from(["Model", "Stage"]), max_size=4, unique=True)
PROPERTIES = st.dictionaries(NAME | GOOD_NAME, VALUE, max_size=5)


def mostly(good):
    return st.one_of(good, good, good, ANYTHING)


RESOLVER = mostly(st.builds(lambda value: lambda event: value, PROPERTIES | ANYTHING))
CONFIGURATION = st.fixed_dictionaries(
    {},
    optional={
        "namespace": mostly(st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1) | NAME),
        "dimensions": mostly(st.lists(SET, min_size=1, max_size=4) | st.lists(st.lists(NAME, max_size=3))),
        "dimension_values": mostly(PROPERTIES),
        "dimension_resolver": RESOLVER,
        "extra_properties": mostly(PROPERTIES),
        "property_resolver": RESOLVER,
    },
)
MORE = settings(max_examples=8 * settings.default.max_examples)


def one_event(hook):
    """Return the event that the hook prints for the usage above, after a look at its counts."""
    metrics = SimpleNamespace(accumulated_usage=dict(USAGE))
    with patch.object(sys, "stdout", io.StringIO()) as stdout:
        hook._on_after_invocation(SimpleNamespace(result=SimpleNamespace(metrics=metrics)))
    line, end = stdout.getvalue().split("\n")
    assert end == ""
    assert {(datum.metric, datum.value) for datum in extract(line)} == set(USAGE.items())
    return parse(line)


@MORE
@given(CONFIGURATION)
def test_any_configuration_is_refused_by_name_or_gives_a_valid_event(configuration):
    try:
        hook = TokenUsageHook(**configuration)
    except (TypeError, ValueError) as error:
        named = str(error).split(" ", 1)[0]
        assert named in configuration
    else:
        one_event(hook)


def is_healthy(value):
    """Say whether JSON gives the value back as it is."""
    try:
        return json.loads(json.dumps(value, allow_nan=False, ensure_ascii=False).encode()) == value
    except Exception:
        return False


@MORE
@given(st.dictionaries(GOOD_NAME, VALUE, max_size=6), st.booleans())
def test_any_property_leaves_the_counts_and_healthy_properties_as_they_are(properties, per_call):
    if per_call:
        hook = TokenUsageHook(property_resolver=lambda event: properties)
    else:
        hook = TokenUsageHook(extra_properties=properties)
    event = one_event(hook)
    assert event.keys() >= properties.keys()
    healthy = {name: value for name, value in properties.items() if is_healthy(value)}
    assert {name: event[name] for name in healthy} == healthy


def dimension_text(value):
    event = build_emf_payload(
        usage=USAGE, namespace="A", dimensions=[["Model"]], dimension_values={"Model": value}
    )
    return event["Model"]


@MORE
@given(st.lists(UTF_8, unique=True, min_size=2, max_size=6))
def test_different_dimension_values_stay_different(values):
    values += [dimension_text(value) for value in values]  # their spelling as well
    texts = {value: dimension_text(value) for value in values if value.strip(" ")}
    assume("unknown" not in texts)
    assert len(set(texts.values())) == len(texts)
    assert all(" " <= character <= "~" for text in texts.values() for character in text)
