"""The default emitter on a real stdout: every event is a line of its own, and nothing else is added."""

import io
import json
import sys

import pytest
from strands import tool
from strands.handlers.callback_handler import CompositeCallbackHandler, PrintingCallbackHandler

from emf_checker import extract, parse
from scripted import fails, make_agent, says, since, start, uses
from strands_token_telemetry import TokenUsageHook, default_emitter
from strands_token_telemetry.emitters import encode

DEFAULT = PrintingCallbackHandler()


def print_text(**kwargs):
    if "data" in kwargs:
        print(kwargs["data"], end="")


class PrintsText:
    def __call__(self, **kwargs):
        print_text(**kwargs)


@pytest.mark.parametrize(
    "handler",
    [
        DEFAULT,
        CompositeCallbackHandler(PrintingCallbackHandler(), lambda **kwargs: None),
        print_text,
        PrintsText(),
    ],
    ids=["default", "composite", "function", "object"],
)
def test_the_line_stands_alone_after_streamed_text(stdout_events, handler):
    agent = make_agent(says("Hello, no newline"), callback_handler=handler, hooks=[TokenUsageHook()])
    agent("one")
    agent("two")
    assert [event["inputTokens"] for event in stdout_events()] == [10, 10]


def test_the_text_itself_is_not_touched(capfd):
    agent = make_agent(says("Hello, no newline"), callback_handler=print_text, hooks=[TokenUsageHook()])
    agent("hello")
    text, line = capfd.readouterr().out.splitlines()
    assert text == "Hello, no newline"
    assert extract(line)


def test_an_agent_without_a_callback_handler_prints_the_lines_and_nothing_else(capfd):
    agent = make_agent(says(), says(), hooks=[TokenUsageHook()])
    agent("one")
    agent("two")
    out = capfd.readouterr().out
    assert out.count("\n") == 2
    assert out.endswith("\n")
    assert [parse(line)["inputTokens"] for line in out.splitlines()] == [10, 10]


def test_the_line_stands_alone_after_a_failed_call(stdout_events):
    @tool
    def look_up() -> str:
        """Look something up."""
        return "found"

    agent = make_agent(
        uses("look_up"), fails(), tools=[look_up], callback_handler=print_text, hooks=[TokenUsageHook()]
    )
    with pytest.raises(Exception, match="the provider is down"):
        agent("look it up")
    assert len(stdout_events()) == 1


@since("1.24", "AfterInvocationEvent.invocation_state")
@pytest.mark.filterwarnings("ignore:`\\*\\*kwargs` parameter is deprecating")
def test_the_line_stands_alone_after_a_callback_handler_of_one_call(stdout_events):
    agent = make_agent(hooks=[TokenUsageHook()])
    agent("hello", callback_handler=print_text)
    assert len(stdout_events()) == 1


def test_the_line_stands_alone_when_an_emitter_passes_its_event_on_to_the_default_one(stdout_events):
    def pass_on(payload):
        default_emitter({**payload, "more": 1})

    agent = make_agent(callback_handler=print_text, hooks=[TokenUsageHook(emitter=pass_on)])
    agent("hello")
    assert len(stdout_events()) == 1


def test_the_default_emitter_writes_one_compact_line(capfd):
    default_emitter({"name": "naïve", "list": [1, 2]})
    assert capfd.readouterr().out == '{"name":"na\\u00efve","list":[1,2]}\n'


def test_the_default_emitter_changes_nothing(capfd):
    payload = {"odd": {1, 2}, 7: "key"}
    default_emitter(payload)
    assert payload == {"odd": {1, 2}, 7: "key"}
    assert json.loads(capfd.readouterr().out) == {"odd": [1, 2], "7": "key"}


def test_one_write_and_a_flush_carry_the_line(monkeypatch):
    calls = []

    class Stdout(io.StringIO):
        def write(self, text):
            calls.append(text)
            return len(text)

        def flush(self):
            calls.append("flush")

    monkeypatch.setattr(sys, "stdout", Stdout())
    make_agent(says(), callback_handler=lambda **kwargs: None, hooks=[TokenUsageHook()])("hello")
    line, flush = calls
    assert line.startswith('\n{"_aws"')
    assert line.endswith("}\n")
    assert flush == "flush"


def test_a_line_after_one_that_broke_off_stands_alone(monkeypatch, caplog):
    class FullDisk(io.StringIO):
        def write(self, text):
            if not caplog.records:
                super().write(text[:20])
                raise OSError("no space left")
            return super().write(text)

    monkeypatch.setattr(sys, "stdout", FullDisk())
    agent = make_agent(
        says(tokens=(1, 1)), says(tokens=(2, 1)), says(tokens=(3, 1)), hooks=[TokenUsageHook()]
    )
    for _ in range(3):
        agent("hello")
    broken, *lines = sys.stdout.getvalue().splitlines()
    assert len(broken) == 20
    assert [extract(line)[0].value for line in lines] == [2, 3]


def test_a_callback_handler_with_attributes_of_its_own_mind_costs_no_line(stdout_events):
    class Handler:
        def __call__(self, **kwargs):
            pass

        def __getattr__(self, name):
            raise KeyError(name)

    make_agent(callback_handler=Handler(), hooks=[TokenUsageHook()])("hello")
    assert len(stdout_events()) == 1


class BrokenStdout(io.StringIO):
    def write(self, text):
        raise BrokenPipeError


def closed_stdout():
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize(
    "stdout", [closed_stdout, lambda: None, BrokenStdout], ids=["closed", "missing", "broken"]
)
def test_without_a_stdout_the_counts_are_in_the_log_and_the_agent_answers(monkeypatch, caplog, stdout):
    agent = make_agent(says("The answer."), hooks=[TokenUsageHook()])
    monkeypatch.setattr(sys, "stdout", stdout())
    assert str(agent("hello")) == "The answer.\n"
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("strands_token_telemetry", "ERROR")
    event = parse(record.getMessage().partition(": ")[2])
    assert event["inputTokens"] == 10


def run(script, *options, **environment):
    """Run a script in a process of its own; return what it printed, as bytes."""
    with start(script, *options, **environment) as process:
        out = process.stdout.read()
    assert process.returncode == 0
    return out


def test_an_ascii_stdout_takes_every_event():
    out = run(
        """
        from scripted import make_agent, says
        from strands_token_telemetry import TokenUsageHook
        hook = TokenUsageHook(extra_properties={"user": "Zoë 🦜"}, dimension_values={"Model": "模型"})
        make_agent(says("Hello."), hooks=[hook])("hello")
        """,
        PYTHONIOENCODING="ascii:strict",
    )
    (line,) = out.decode("ascii").splitlines()
    assert extract(line)
    assert parse(line)["user"] == "Zoë 🦜"


def test_bytes_are_text_even_where_python_refuses_to_make_it():
    out = run(
        """
        from scripted import make_agent, says
        from strands_token_telemetry import TokenUsageHook
        make_agent(says(), hooks=[TokenUsageHook(extra_properties={"odd": b"bytes"})])("hello")
        """,
        "-bb",
    )
    assert parse(out.decode().strip())["odd"] == "b'bytes'"


@pytest.mark.parametrize("options", [["-u"], []], ids=["unbuffered", "buffered"])
def test_eight_threads_print_whole_lines_between_streamed_text(options):
    out = run(
        """
        from concurrent.futures import ThreadPoolExecutor
        from scripted import make_agent, says
        from strands_token_telemetry import TokenUsageHook

        def print_text(**kwargs):
            if "data" in kwargs:
                print(kwargs["data"], end="")

        hook = TokenUsageHook()
        def agent_of(n):
            return make_agent(says(tokens=(n, 1)), callback_handler=print_text, hooks=[hook])

        agents = [agent_of(n) for n in range(8)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda agent: [agent("hello") for _ in range(20)], agents))
        """,
        *options,
    )
    lines = [line for line in out.decode().splitlines() if "_aws" in line]
    assert len(lines) == 160
    assert sum(extract(line)[0].value for line in lines) == 20 * sum(range(8))


def test_an_encoded_event_is_never_longer_than_the_limit():
    assert len(encode({f"property{n}": "x" * 400_000 for n in range(5)})) < 1000
