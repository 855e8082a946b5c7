"""Each event is either on a line of its own or in the log, and the agent answers whatever goes wrong."""

import asyncio
import io
import logging
import os
import subprocess
import sys
import time
from collections.abc import Coroutine
from types import SimpleNamespace

import pytest
from strands import tool
from strands.handlers.callback_handler import PrintingCallbackHandler

from helpers import call, checked, fails, make_agent, says, start, uses
from strands_token_telemetry import TokenUsageHook, default_emitter

buffered_or_not = pytest.mark.parametrize("options", [["-u"], []], ids=["unbuffered", "buffered"])


def fail(*arguments):
    raise OSError("out of order")


def tokens(out):
    """Return the sum of the input tokens on the lines of an output, each of which is an event."""
    return sum(checked(line)["inputTokens"] for line in filled(out))


def filled(out):
    return [line for line in out.splitlines() if line]


def logged(errors):
    """Return the events in what was logged on stderr."""
    return "\n".join(line.partition("not delivered: ")[2] for line in errors.splitlines())


# The line stands alone.


@pytest.mark.parametrize("turns", [[says("As is")], [uses("look_up"), fails()]], ids=["success", "failure"])
def test_the_line_stands_alone_after_streamed_text(capfd, turns):
    call(make_agent(*turns, callback_handler=PrintingCallbackHandler(), hooks=[TokenUsageHook()]))
    *_, text, line = filled(capfd.readouterr().out)
    assert text == turns[-1].text
    assert tokens(line) > 0


def test_the_line_of_a_silent_agent_stands_alone_after_what_an_agent_in_its_tool_streams(capfd):
    """Tools such as `graph` of strands-agents-tools have agents of their own."""

    @tool
    def ask() -> str:
        """Ask another agent, which prints its answer."""
        return str(make_agent(says("Known."), callback_handler=PrintingCallbackHandler())("hello"))

    make_agent(uses("ask", tokens=(4, 3)), says(tokens=(6, 2)), tools=[ask], hooks=[TokenUsageHook()])("hi")
    text, line = filled(capfd.readouterr().out)
    assert (text, tokens(line)) == ("Known.", 10)


def test_the_line_stands_alone_beside_threads_that_print_without_a_buffer():
    """Where PYTHONUNBUFFERED is set, `print` writes a text and its newline apart."""
    script = """
def chatter():
    while not done:
        print("Text of another thread")

done = []
threads = [threading.Thread(target=chatter) for _ in range(4)]
for thread in threads:
    thread.start()
emit("a", 100, characters=9)
done.append(True)
"""
    with start(EMIT + script, PYTHONUNBUFFERED="1") as process:
        lines = process.stdout.read().decode().splitlines()
    assert numbers([line for line in lines if "_aws" in line]) == numbered("a", lines=100)


def test_the_default_emitter_writes_one_compact_ascii_line_and_changes_nothing(capfd):
    payload = {"name": "naïve", "list": [1, 2], "odd": {3}, 7: "key"}
    default_emitter(payload)
    assert capfd.readouterr().out == '\n{"name":"na\\u00efve","list":[1,2],"odd":[3],"7":"key"}\n'
    assert payload == {"name": "naïve", "list": [1, 2], "odd": {3}, 7: "key"}


def test_the_default_emitter_writes_no_nan(capfd):
    default_emitter({"ratio": float("nan"), "inputTokens": 12})
    assert capfd.readouterr().out == '\n{"ratio":"NaN","inputTokens":12}\n'


@buffered_or_not
def test_a_process_that_is_killed_after_a_call_has_printed_its_line(options):
    script = """
        import os
        from helpers import make_agent
        from strands_token_telemetry import TokenUsageHook
        hook = TokenUsageHook(extra_properties={"user": "Zoë 🦜"}, dimension_values={"Model": "模型"})
        print("printed before", end="")
        make_agent(hooks=[hook])("hello")
        os.kill(os.getpid(), 9)
    """
    with start(script, *options, PYTHONIOENCODING="ascii:strict") as process:
        before, line = process.stdout.read().decode("ascii").splitlines()
    assert process.returncode != 0
    assert before == "printed before"
    assert tokens(line) == 10
    assert checked(line)["user"] == "Zoë 🦜"


# What was not delivered is in the log, and the agent answers.


class Request(Coroutine):
    """What `session.post(...)` of aiohttp returns: a coroutine of a class of its own."""

    def send(self, value):
        raise StopIteration

    throw = __await__ = close = send


def change_and_fail(event):
    event["_aws"]["CloudWatchMetrics"][0]["Dimensions"][0].append("Changed")
    fail()


@pytest.mark.filterwarnings("ignore:coroutine 'sleep' was never awaited")
@pytest.mark.parametrize(
    ("emitter", "why"),
    [
        pytest.param(fail, "out of order", id="raises"),
        pytest.param(lambda event: asyncio.sleep(0), "emitter returned a coroutine", id="coroutine"),
        pytest.param(lambda event: Request(), "emitter returned a coroutine", id="a coroutine of aiohttp"),
        pytest.param(change_and_fail, "out of order", id="changes it, then raises"),
    ],
)
def test_an_emitter_that_fails_is_logged_with_its_event(caplog, undelivered, emitter, why):
    make_agent(hooks=[TokenUsageHook(emitter=emitter)])("hello")
    (record,) = caplog.records
    assert why in str(record.exc_info[1])
    assert undelivered.inputs == [10]
    assert undelivered[0]["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [["Model"]]


def test_an_emitter_may_return_a_task_that_it_has_scheduled(caplog):
    async def invoke():
        async def post(event):
            posted.append(event)

        hook = TokenUsageHook(emitter=lambda event: asyncio.ensure_future(post(event)))
        await make_agent(hooks=[hook]).invoke_async("hello")
        await asyncio.sleep(0)

    posted = []
    asyncio.run(invoke())
    assert posted[0]["inputTokens"] == 10
    assert caplog.records == []


CLOSED = io.StringIO()
CLOSED.close()


@pytest.mark.parametrize(
    "stdout", [CLOSED, None, SimpleNamespace(write=fail)], ids=["closed", "none", "broken"]
)
def test_without_a_stdout_the_event_is_in_the_log(monkeypatch, undelivered, stdout):
    agent = make_agent(says("The answer."), hooks=[TokenUsageHook()])
    monkeypatch.setattr(sys, "stdout", stdout)
    assert str(agent("hello")) == "The answer.\n"
    assert undelivered.inputs == [10]


def test_a_broken_log_does_not_reach_the_agent_or_lose_the_event(monkeypatch, events):
    def lose(event):
        events(event)
        fail()

    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", fail)  # as a handler does whose network is down
    monkeypatch.setattr(logging.getLogger("strands_token_telemetry"), "handlers", [handler])
    hook = TokenUsageHook(
        dimensions=[["Stage"]], dimension_resolver=fail, property_resolver=fail, emitter=lose
    )
    assert str(make_agent(says("The answer."), hooks=[hook])("hello")) == "The answer.\n"
    assert events.inputs == [10]


def test_a_logger_that_the_user_has_disabled_stays_disabled(monkeypatch):
    logger = logging.getLogger("strands_token_telemetry")
    monkeypatch.setattr(logger, "disabled", True)
    make_agent(hooks=[TokenUsageHook(emitter=fail)])("hello")
    assert logger.disabled


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
@pytest.mark.parametrize("parameter", ["emitter", "property_resolver"])
def test_what_stops_a_program_leaves_the_counts_in_the_log(caplog, parameter, stop):
    def stopping(_):
        raise stop

    def run(coroutine):  # without an event loop, which would stop at KeyboardInterrupt itself
        while True:
            coroutine.send(None)

    agent = make_agent(hooks=[TokenUsageHook(**{parameter: stopping})])
    with pytest.raises(stop):
        run(agent.invoke_async("hello"))
    (record,) = [record for record in caplog.records if record.name == "strands_token_telemetry"]
    assert "'inputTokens': 10" in record.getMessage()


# Robustness: a stdout that was replaced.


@pytest.mark.parametrize("can_flush", [True, False])
def test_a_stdout_that_was_replaced_gets_the_line_in_one_write(monkeypatch, caplog, can_flush):
    """It may have nothing but `write`."""
    calls = []
    methods = {"flush": lambda: calls.append("flush")} if can_flush else {}
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(write=calls.append, **methods))
    make_agent(hooks=[TokenUsageHook()])("hello")
    line, *others = calls
    assert (tokens(line), others) == (10, ["flush"] * can_flush)
    assert caplog.records == []


# Robustness: a stdout that is slow, full or forked, or whose reader goes away.

# Long lines, by the hook and the default emitter alone: a process that needs no Strands starts at once.
EMIT = """
import faulthandler, os, random, select, signal, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from strands_token_telemetry import TokenUsageHook
faulthandler.dump_traceback_later(30, exit=True)

hook = TokenUsageHook(dimensions=[[]], property_resolver=lambda event: event.properties)

class Metrics:
    accumulated_usage = {"inputTokens": 10}

def emit(name, lines, metrics=Metrics, characters=None):
    for n in range(lines):
        some = characters or random.choice([random.randrange(500), random.randrange(500), 3400])
        properties = {"line": f"{name}-{n}", "padding": "é" * some}
        agent = SimpleNamespace(event_loop_metrics=metrics())
        hook._on_after_invocation(SimpleNamespace(agent=agent, properties=properties))
"""


def numbers(lines):
    assert tokens("\n".join(lines)) == 10 * len(lines)
    return sorted(checked(line)["line"] for line in lines)


def numbered(*names, lines):
    return sorted(f"{name}-{n}" for name in names for n in range(lines))


def read_slowly(pipe):
    chunks = []
    while chunk := os.read(pipe.fileno(), 8192):
        chunks.append(chunk)
        time.sleep(0.0005)
    return b"".join(chunks)


@buffered_or_not
def test_eight_threads_print_for_a_slow_reader_while_signals_arrive(options):
    script = """
signal.signal(signal.SIGALRM, lambda *_: None)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
with ThreadPoolExecutor(7) as pool:
    for name in range(7):
        pool.submit(emit, name, 30)
    emit("main", 30)  # only the main thread is interrupted by signals
signal.setitimer(signal.ITIMER_REAL, 0)
"""
    with start(EMIT + script, *options) as process:
        lines = filled(read_slowly(process.stdout).decode("ascii"))
    assert process.returncode == 0
    assert numbers(lines) == numbered(*range(7), "main", lines=30)
    assert max(map(len, lines)) > 20_000


def test_a_line_that_interrupts_another_does_not_wait_for_it():
    """A signal handler may emit one, for example."""
    script = """
from strands_token_telemetry import default_emitter

class Interrupted:
    def write(self, text):
        if "first" in text:
            default_emitter({"second": 2})
        os.write(1, text.encode())

    def flush(self):
        pass

sys.stdout = Interrupted()
default_emitter({"first": 1})
"""
    with start(EMIT + script) as process:
        assert process.stdout.read().split() == [b'{"second":2}', b'{"first":1}']


@buffered_or_not
def test_a_pipe_that_does_not_wait_for_its_reader_loses_nothing(options):
    script = EMIT + 'os.set_blocking(1, False)\nemit("a", 100)\n'
    with start(script, *options, stderr=subprocess.PIPE) as process:
        errors = process.stderr.read().decode()  # until the process ends; stdout is full before
        out = process.stdout.read().decode()
    whole = [line for line in out.splitlines() if line.endswith("}")]
    assert 0 < len(whole) < 100
    assert numbers(whole + filled(logged(errors))) == numbered("a", lines=100)


@buffered_or_not
def test_a_reader_that_goes_away_costs_nothing_and_the_log_has_the_counts(options):
    script = """
        import faulthandler, logging.config, sys
        from helpers import make_agent, says
        from strands_token_telemetry import TokenUsageHook
        handlers = {"stderr": {"class": "logging.StreamHandler"}}  # the next line disables existing loggers
        logging.config.dictConfig({"version": 1, "handlers": handlers, "root": {"handlers": ["stderr"]}})
        faulthandler.dump_traceback_later(30, exit=True)
        agent = make_agent(says("The answer."), hooks=[TokenUsageHook()])
        agent("while there is a reader")
        sys.stdin.read()
        for _ in range(3):
            print(agent("without one"), file=sys.stderr)
    """
    with start(script, *options, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert tokens((process.stdout.readline() + process.stdout.readline()).decode()) == 10
        process.stdout.close()
        process.stdin.close()
        errors = process.stderr.read().decode()
    assert process.returncode == 0
    assert errors.splitlines().count("The answer.") == 3
    assert tokens(logged(errors)) == 30


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@buffered_or_not
def test_a_child_emits_whose_parent_was_printing_and_counting_when_it_forked(options):
    script = """
class SlowMetrics:
    @property
    def accumulated_usage(self):
        counting.set()
        counted.wait()
        return {"inputTokens": 10}

counting, counted = threading.Event(), threading.Event()
threading.Thread(target=emit, args=["writer", 40, Metrics, 600]).start()  # the pipe takes each as a whole
while select.select([], [1], [], 0)[1]:
    time.sleep(0.01)  # until the pipe is full
threading.Thread(target=emit, args=["counter", 40, SlowMetrics, 600]).start()
counting.wait()
started = time.monotonic()
child = os.fork()
if not child:
    signal.alarm(10)
    emit("child", 40, characters=600)
    os._exit(0)
print(time.monotonic() - started, file=sys.stderr, flush=True)
counted.set()
sys.exit(os.waitpid(child, 0)[1])
"""
    with start(EMIT + script, "-Wignore", *options, stderr=subprocess.PIPE) as process:
        seconds = float(process.stderr.readline())
        lines = filled(process.stdout.read().decode())
        process.stderr.close()
    assert process.returncode == 0
    assert seconds < 1  # the fork waits for nobody
    assert numbers(lines) == numbered("writer", "counter", "child", lines=40)
