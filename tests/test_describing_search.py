"""Whatever the constructor takes gives valid events with the right counts. It refuses the rest by name."""

import datetime as dt
import enum
import io
import json
import sys
from types import SimpleNamespace
from unittest.mock import patch

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from emf_checker import extract, parse
from strands_token_telemetry import TokenUsageHook
from strands_token_telemetry.emf import dimension_text

USAGE = {"inputTokens": 11, "outputTokens": 7, "totalTokens": 18, "cacheReadInputTokens": 3}


class Mute:
    def __repr__(self):
        raise RuntimeError("no text")


class MuteText(str):
    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__


class Colour(enum.Enum):
    RED = "red"


def huge():
    return 10**5000  # more digits than str takes


def circular(value):
    loop = [value]
    loop.append({"again": loop})
    return loop


# Every character, lone surrogates and control characters included.
ANY_TEXT = st.text(st.characters(categories=["L", "M", "N", "P", "S", "Z", "C"]), max_size=60)
LEAF = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.builds(huge),
    st.builds(Mute),
    st.builds(MuteText),
    st.builds(io.StringIO),
    st.floats(),
    st.complex_numbers(),
    ANY_TEXT,
    st.binary(max_size=20),
    st.builds(bytearray, st.binary(max_size=5)),
    st.dates(),
    st.datetimes(timezones=st.just(dt.timezone.utc)),
    st.decimals(),
    st.fractions(),
    st.uuids(),
    st.sampled_from(
        [
            Colour.RED,
            object(),
            int,
            len,
            ...,
            range(3),
            ValueError("x"),
            Mute,
        ]
    ),
)
HASHABLE = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), ANY_TEXT, st.binary(max_size=9), st.dates()
)
VALUE = st.recursive(
    LEAF,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.dictionaries(HASHABLE | st.tuples(HASHABLE), inner, max_size=4),
        st.sets(HASHABLE, max_size=4),
        st.frozensets(HASHABLE, max_size=4),
        st.builds(circular, inner),
        st.builds(SimpleNamespace, value=inner),
    ),
    max_leaves=8,
)
NAME = (
    st.sampled_from(["Model", "AgentName", "Stage", "inputTokens", "_aws", ":x", "", " ", "é", "x" * 251])
    | ANY_TEXT
)
GOOD_NAME = st.text(
    st.characters(codec="ascii", categories=["L", "N", "P", "S"]), min_size=1, max_size=250
).filter(lambda name: not name.startswith(":") and name not in {*USAGE, "cacheWriteInputTokens"})
SETS = st.lists(
    st.lists(GOOD_NAME | st.sampled_from(["Model", "Stage"]), max_size=4, unique=True), min_size=1, max_size=4
)
PROPERTIES = st.dictionaries(NAME | GOOD_NAME, VALUE, max_size=5)
MORE = settings(max_examples=8 * settings.default.max_examples)
ANYTHING = VALUE.filter(lambda value: type(value) is not int) | st.integers() | st.functions()


def mostly(good):
    return st.one_of(good, good, good, ANYTHING)


CONFIGURATION = st.fixed_dictionaries(
    {},
    optional={
        "namespace": mostly(st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1) | NAME),
        "dimensions": mostly(SETS | st.lists(st.lists(NAME, max_size=3), max_size=3)),
        "dimension_values": mostly(PROPERTIES),
        "dimension_resolver": mostly(st.builds(lambda value: lambda event: value, PROPERTIES | ANYTHING)),
        "extra_properties": mostly(PROPERTIES),
        "property_resolver": mostly(st.builds(lambda value: lambda event: value, PROPERTIES | ANYTHING)),
    },
)


def is_healthy(value):
    """Say whether JSON gives the value back as it is."""
    try:
        return json.loads(json.dumps(value, allow_nan=False, ensure_ascii=False).encode()) == value
    except Exception:
        return False


def one_event(hook):
    """Return the line that the hook prints for an event with the usage above."""
    metrics = SimpleNamespace(accumulated_usage=dict(USAGE))
    with patch.object(sys, "stdout", io.StringIO()) as stdout:
        hook._on_after_invocation(SimpleNamespace(result=SimpleNamespace(metrics=metrics)))
    line, end = stdout.getvalue().split("\n")
    assert end == ""
    return line


@MORE
@given(CONFIGURATION)
def test_any_configuration_is_refused_by_name_or_gives_a_valid_event(configuration):
    try:
        hook = TokenUsageHook(**configuration)
    except (TypeError, ValueError) as error:
        named = str(error).split(" ", 1)[0]
        assert named in configuration
        return
    line = one_event(hook)
    values = {(datum.metric, datum.value) for datum in extract(line)}
    assert values == set(USAGE.items())


@MORE
@given(
    st.dictionaries(GOOD_NAME.filter(lambda name: name not in {"Model", "_aws"}), VALUE, max_size=6),
    st.booleans(),
)
def test_any_property_leaves_the_counts_and_all_healthy_properties_as_they_are(properties, per_call):
    if per_call:
        hook = TokenUsageHook(property_resolver=lambda event: properties)
    else:
        hook = TokenUsageHook(extra_properties=properties)
    line = one_event(hook)
    assert {(datum.metric, datum.value) for datum in extract(line)} == set(USAGE.items())
    event = parse(line)
    assert event.keys() >= properties.keys()
    for name, value in properties.items():
        if is_healthy(value):
            assert event[name] == value


@MORE
@given(st.lists(ANY_TEXT, unique=True, min_size=2, max_size=6))
def test_different_dimension_values_stay_different(values):
    values += [dimension_text(value) for value in values]  # their spelling as well
    texts = {value: dimension_text(value) for value in values if value.strip(" ")}
    assume("unknown" not in texts)
    assert len(set(texts.values())) == len(texts)
    for text in texts.values():
        assert all(" " <= character <= "~" for character in text)


@MORE
@given(st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="\\"), max_size=1024))
def test_printable_ascii_without_a_backslash_goes_out_as_it_is(value):
    assert dimension_text(value) == (value if value.strip() else "unknown")
