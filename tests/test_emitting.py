"""Each event is on a line of its own or in the log, once, and whatever goes wrong the agent answers."""

import asyncio
import contextlib
import gc
import io
import json
import logging
import os
import subprocess
import sys
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from strands.handlers.callback_handler import CompositeCallbackHandler, PrintingCallbackHandler
from strands.hooks import AfterInvocationEvent
from strands.telemetry.metrics import EventLoopMetrics

from emf_checker import extract, parse
from scripted import call, fails, make_agent, says, since, start, uses
from strands_token_telemetry import TokenUsageHook, default_emitter

buffered_or_not = pytest.mark.parametrize("options", [["-u"], []], ids=["unbuffered", "buffered"])
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")


def print_text(**kwargs):
    if "data" in kwargs:
        print(kwargs["data"], end="")


class PrintsText:
    def __call__(self, **kwargs):
        print_text(**kwargs)

    def __getattr__(self, name):
        raise KeyError(name)


def tokens(lines):
    return sum(datum.value for line in lines for datum in extract(line) if datum.metric == "inputTokens")


def logged(errors):
    """Return the events in what was logged on stderr."""
    return [line.partition("not delivered: ")[2] for line in errors if "not delivered: " in line]


# The line stands alone.


@pytest.mark.parametrize(
    "handler",
    [
        pytest.param(PrintingCallbackHandler(), id="default"),
        pytest.param(
            CompositeCallbackHandler(PrintingCallbackHandler(), lambda **kwargs: None), id="composite"
        ),
        pytest.param(print_text, id="function"),
        pytest.param(PrintsText(), id="object with attributes of its own mind"),
    ],
)
@pytest.mark.parametrize(
    "turns", [[says("No newline")], [uses("look_up"), fails()]], ids=["success", "failure"]
)
def test_the_line_stands_alone_after_streamed_text(stdout_events, handler, turns):
    call(make_agent(*turns, callback_handler=handler, hooks=[TokenUsageHook()]))
    assert len(stdout_events()) == 1


def test_the_text_itself_is_not_touched(capfd):
    make_agent(says("No newline"), callback_handler=print_text, hooks=[TokenUsageHook()])("hello")
    text, line = capfd.readouterr().out.splitlines()
    assert text == "No newline"
    assert extract(line)


def test_a_process_whose_agents_are_quiet_prints_the_lines_and_nothing_else(capfd):
    agent = make_agent(hooks=[TokenUsageHook()])
    agent("one")
    agent("two")
    out = capfd.readouterr().out
    assert out.count("\n") == 2
    assert tokens(out.splitlines()) == 20


def pass_on(event):
    default_emitter({**event, "more": 1})


def hand_to_a_thread(event):
    with ThreadPoolExecutor(1) as pool:
        pool.submit(default_emitter, event).result()


@pytest.mark.parametrize("emitter", [pass_on, hand_to_a_thread])
def test_the_line_stands_alone_when_an_emitter_passes_its_event_on(stdout_events, emitter):
    make_agent(callback_handler=print_text, hooks=[TokenUsageHook(emitter=emitter)])("hello")
    assert len(stdout_events()) == 1


def test_the_line_of_a_quiet_agent_stands_alone_beside_one_that_streams(stdout_events):
    hook = TokenUsageHook()
    streaming = make_agent(callback_handler=print_text, hooks=[hook])
    streaming("this process streams")
    print("Text of the next reply", end="")
    make_agent(hooks=[hook])("hello")
    assert len(stdout_events()) == 2


@since("1.24", "AfterInvocationEvent.invocation_state")
@pytest.mark.filterwarnings("ignore:`\\*\\*kwargs` parameter is deprecating")
def test_the_line_stands_alone_after_a_callback_handler_of_one_call(stdout_events):
    make_agent(hooks=[TokenUsageHook()])("hello", callback_handler=print_text)
    assert len(stdout_events()) == 1


def test_a_line_after_one_that_broke_off_stands_alone(monkeypatch, undelivered):
    class FullDisk(io.StringIO):
        def write(self, text):
            if not undelivered and not self.getvalue():
                super().write(text[:20])
                raise OSError("no space left")
            return super().write(text)

    monkeypatch.setattr(sys, "stdout", FullDisk())
    agent = make_agent(*(says(tokens=(n, 1)) for n in (1, 2, 3)), hooks=[TokenUsageHook()])
    for _ in range(3):
        agent("hello")
    broken, *lines = sys.stdout.getvalue().splitlines()
    assert len(broken) == 20
    assert undelivered.inputs == [1]
    assert [extract(line)[0].value for line in lines if line] == [2, 3]


@buffered_or_not
def test_eight_threads_print_whole_lines_between_streamed_text(options):
    script = """
        from concurrent.futures import ThreadPoolExecutor
        from scripted import make_agent, says
        from strands_token_telemetry import TokenUsageHook
        from test_emitting import print_text

        settings = {"callback_handler": print_text, "hooks": [TokenUsageHook()]}
        agents = [make_agent(says(tokens=(n, 1)), **settings) for n in range(8)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda agent: [agent("hello") for _ in range(20)], agents))
    """
    with start(script, *options) as process:
        lines = [line for line in process.stdout.read().decode().splitlines() if "_aws" in line]
    assert len(lines) == 160
    assert tokens(lines) == 20 * sum(range(8))


# The default emitter by itself.


def test_the_default_emitter_writes_one_compact_ascii_line_and_changes_nothing(capfd):
    payload = {"name": "naïve", "list": [1, 2], "odd": {3}, 7: "key"}
    default_emitter(payload)
    assert capfd.readouterr().out == '{"name":"na\\u00efve","list":[1,2],"odd":[3],"7":"key"}\n'
    assert payload == {"name": "naïve", "list": [1, 2], "odd": {3}, 7: "key"}


def test_one_write_and_a_flush_carry_the_line_to_a_stdout_that_was_replaced(monkeypatch):
    calls = []

    class Stdout(io.StringIO):
        def write(self, text):
            calls.append(text)

        def flush(self):
            calls.append("flush")

    monkeypatch.setattr(sys, "stdout", Stdout())
    make_agent(callback_handler=lambda **kwargs: None, hooks=[TokenUsageHook()])("hello")
    line, flush = calls
    assert (line[:8], line[-2:], flush) == ('\n{"_aws"', "}\n", "flush")


@buffered_or_not
def test_an_ascii_stdout_takes_every_event_after_what_was_printed_before_it(options):
    script = """
        from scripted import make_agent
        from strands_token_telemetry import TokenUsageHook
        hook = TokenUsageHook(extra_properties={"user": "Zoë 🦜"}, dimension_values={"Model": "模型"})
        print("printed before")
        make_agent(hooks=[hook])("hello")
        print("printed after")
    """
    with start(script, *options, PYTHONIOENCODING="ascii:strict") as process:
        before, line, after = process.stdout.read().decode("ascii").splitlines()
    assert (before, after) == ("printed before", "printed after")
    assert extract(line)
    assert parse(line)["user"] == "Zoë 🦜"


# A stdout that is broken, slow, full or forked.


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
def test_without_a_stdout_the_counts_are_in_the_log_and_the_agent_answers(monkeypatch, undelivered, stdout):
    agent = make_agent(says("The answer."), hooks=[TokenUsageHook()])
    monkeypatch.setattr(sys, "stdout", stdout())
    assert str(agent("hello")) == "The answer.\n"
    assert undelivered.inputs == [10]


THREADS, LINES = 8, 60

EMIT = """
import random
from concurrent.futures import ThreadPoolExecutor
from strands.hooks import AfterInvocationEvent
from scripted import make_agent, says
from strands_token_telemetry import TokenUsageHook

def numbered(event):
    padding = "é" * random.choice([random.randrange(500), random.randrange(500), 3400])
    return {"line": f"{event.agent.name}-{event.agent.state.get('n')}", "padding": padding}

hook = TokenUsageHook(property_resolver=numbered)

def emit(name, lines):
    agent = make_agent(name=str(name))
    for n in range(lines):
        agent.state.set("n", n)
        agent.event_loop_metrics.accumulated_usage["inputTokens"] += 10
        hook._on_after_invocation(AfterInvocationEvent(agent=agent))
"""


def numbers(lines):
    return sorted(parse(line)["line"] for line in lines)


def read_at_once(pipe):
    return pipe.read()


def read_slowly(pipe):
    chunks = []
    while chunk := os.read(pipe.fileno(), 8192):
        chunks.append(chunk)
        time.sleep(0.0005)
    return b"".join(chunks)


@buffered_or_not
@pytest.mark.parametrize(
    ("read", "signals"),
    [(read_at_once, ""), (read_slowly, "signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)")],
    ids=["a quick reader", "a slow reader and signals"],
)
def test_many_threads_print_long_and_short_lines(options, read, signals):
    script = f"""{EMIT}
import signal
signal.signal(signal.SIGALRM, lambda *_: None)
{signals}
with ThreadPoolExecutor({THREADS}) as pool:
    list(pool.map(lambda name: emit(name, {LINES}), range({THREADS})))
signal.setitimer(signal.ITIMER_REAL, 0)
"""
    with start(script, *options) as process:
        lines = read(process.stdout).decode("ascii").splitlines()
    assert process.returncode == 0
    assert numbers(lines) == sorted(f"{thread}-{n}" for thread in range(THREADS) for n in range(LINES))
    assert max(map(len, lines)) > 20_000
    assert tokens(lines) == 10 * THREADS * LINES


@buffered_or_not
def test_a_pipe_that_does_not_wait_for_its_reader_loses_nothing(options):
    script = f"""{EMIT}
import os
os.set_blocking(1, False)
emit("a", 300)
"""
    with start(script, *options, stderr=subprocess.PIPE) as process:
        errors = process.stderr.read().decode().splitlines()  # until the process ends; stdout is full before
        out = process.stdout.read().decode().splitlines()
    whole = [line for line in out if line.endswith("}")]
    assert 0 < len(whole) < 300
    assert numbers(whole + logged(errors)) == sorted(f"a-{n}" for n in range(300))


@buffered_or_not
def test_a_reader_that_goes_away_costs_the_agent_nothing_and_the_counts_are_on_stderr(options):
    script = """
        import sys
        from scripted import make_agent, says
        from strands_token_telemetry import TokenUsageHook
        agent = make_agent(says("The answer."), hooks=[TokenUsageHook()])
        agent("while there is a reader")
        sys.stdin.read()
        for _ in range(3):
            print(agent("without one"), file=sys.stderr)
    """
    with start(script, *options, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert tokens([process.stdout.readline().decode().rstrip("\n")]) == 10
        process.stdout.close()
        process.stdin.close()
        errors = process.stderr.read().decode().splitlines()
    assert process.returncode == 0
    assert errors.count("The answer.") == 3
    assert tokens(logged(errors)) == 30


def test_a_process_that_is_killed_after_a_call_has_printed_its_line():
    script = """
        import os
        from scripted import make_agent
        from strands_token_telemetry import TokenUsageHook
        make_agent(hooks=[TokenUsageHook()])("hello")
        os.kill(os.getpid(), 9)
    """
    with start(script) as process:
        lines = process.stdout.read().decode().splitlines()
    assert process.returncode != 0
    assert tokens(lines) == 10


@forks
@buffered_or_not
def test_a_process_forks_while_a_thread_waits_for_the_reader_of_stdout(options):
    script = f"""{EMIT}
import os, signal, sys, threading, time
random.choice = lambda choices: 300
thread = threading.Thread(target=emit, args=["parent", 400])
thread.start()
time.sleep(1)  # the pipe is full
started = time.monotonic()
child = os.fork()
if not child:
    signal.alarm(20)
    emit("child", 3)
    os._exit(0)
print(time.monotonic() - started, thread.is_alive(), file=sys.stderr, flush=True)
thread.join()
sys.exit(os.waitpid(child, 0)[1])
"""
    with start(script, *options, stderr=subprocess.PIPE) as process:
        seconds, writing = process.stderr.readline().split()
        lines = process.stdout.read().decode().splitlines()
        process.stderr.close()
    assert process.returncode == 0
    assert writing == b"True"
    assert float(seconds) < 2  # the fork waits for one second at most
    assert numbers(lines) == sorted([f"parent-{n}" for n in range(400)] + [f"child-{n}" for n in range(3)])


@forks
def test_a_child_that_was_forked_while_a_thread_counted_can_count():
    script = """
        import os, signal, sys, threading
        from types import SimpleNamespace
        from scripted import make_agent
        from strands_token_telemetry import TokenUsageHook

        class Metrics:
            @property
            def accumulated_usage(self):
                if threading.current_thread() is thread:
                    entered.set()
                    leave.wait()
                return {"inputTokens": 10}

        def emit():
            agent = SimpleNamespace(event_loop_metrics=Metrics(), model=None)
            hook._on_after_invocation(SimpleNamespace(agent=agent))

        hook, entered, leave = TokenUsageHook(dimensions=[[]]), threading.Event(), threading.Event()
        thread = threading.Thread(target=emit)
        thread.start()
        entered.wait()
        child = os.fork()
        if not child:
            signal.alarm(10)
            emit()
            os._exit(0)
        os.waitpid(child, 0)
        leave.set()
    """
    with start(script) as process:
        assert tokens(process.stdout.read().decode().splitlines()) == 20


# The log, an emitter or a resolver fails.


def fail(*arguments):
    raise OSError("out of order")


@pytest.fixture
def broken_log():
    class NetworkHandler(logging.Handler):
        def emit(self, record):
            raise RuntimeError("the log is broken too")

    handler = NetworkHandler()
    logger = logging.getLogger("strands_token_telemetry")
    logger.addHandler(handler)
    yield
    logger.removeHandler(handler)


def test_a_broken_log_does_not_reach_the_agent(broken_log):
    hook = TokenUsageHook(
        dimensions=[["Unknown"]], dimension_resolver=fail, property_resolver=fail, emitter=fail
    )
    assert str(make_agent(says("The answer."), hooks=[hook])("hello")) == "The answer.\n"


def test_a_broken_log_does_not_lose_the_event(broken_log, events):
    hook = TokenUsageHook(
        dimensions=[["Unknown"]], dimension_resolver=fail, property_resolver=fail, emitter=events
    )
    make_agent(hooks=[hook])("hello")
    assert events.inputs == [10]


def test_an_undelivered_event_is_in_a_log_that_was_configured_after_the_import():
    script = """
        import logging.config
        from scripted import make_agent
        from strands_token_telemetry import TokenUsageHook
        hook = TokenUsageHook(emitter=lambda event: 1 / 0)
        handlers = {"stderr": {"class": "logging.StreamHandler"}}
        logging.config.dictConfig({"version": 1, "handlers": handlers, "root": {"handlers": ["stderr"]}})
        make_agent(hooks=[hook])("hello")
    """
    with start(script, stderr=subprocess.PIPE) as process:
        errors = process.stderr.read().decode().splitlines()
    assert tokens(logged(errors)) == 10


@pytest.mark.filterwarnings("ignore:coroutine 'sleep' was never awaited")
def test_an_emitter_that_returns_a_coroutine_is_logged_with_its_event(caplog, undelivered):
    make_agent(hooks=[TokenUsageHook(emitter=lambda event: asyncio.sleep(0))])("hello")
    assert "emitter returned a coroutine" in str(caplog.records[0].exc_info[1])
    assert undelivered.inputs == [10]


def test_a_configuration_changed_to_nonsense_after_construction_leaves_the_counts_in_the_log(caplog):
    hook = TokenUsageHook()
    hook.dimensions = 7
    assert str(make_agent(says("The answer."), hooks=[hook])("hello")) == "The answer.\n"
    (record,) = caplog.records
    assert record.getMessage().startswith("token usage was not emitted: {'inputTokens': 10, ")


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
@pytest.mark.parametrize("parameter", ["emitter", "property_resolver"])
def test_what_stops_a_program_or_a_task_passes_and_leaves_the_counts_in_the_log(caplog, parameter, stop):
    def stopping(_):
        raise stop

    async def invoke():
        with pytest.raises(stop):
            await agent.invoke_async("hello")

    agent = make_agent(hooks=[TokenUsageHook(**{parameter: stopping})])
    coroutine = invoke()
    with contextlib.suppress(StopIteration):  # no event loop: it would stop at KeyboardInterrupt itself
        while True:
            coroutine.send(None)
    (record,) = [record for record in caplog.records if record.name == "strands_token_telemetry"]
    assert "'inputTokens': 10" in record.getMessage()


# What an emission keeps and costs does not grow, with agents or with invocations.


def memory():
    package = tracemalloc.Filter(inclusive=True, filename_pattern="*/strands_token_telemetry/*")
    return sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces([package]).traces)


def spend(hook, agent):
    agent.event_loop_metrics.accumulated_usage["inputTokens"] += 1
    hook._on_after_invocation(AfterInvocationEvent(agent=agent))


def test_ten_thousand_agents_leave_what_five_thousand_do():
    def serve(agents):
        for n in range(agents):
            spend(hook, SimpleNamespace(name=f"agent {n}", event_loop_metrics=EventLoopMetrics()))

    hook = TokenUsageHook(dimensions=[["AgentName"]], emitter=lambda event: None)
    tracemalloc.start()
    try:
        serve(5_000)
        half_way = memory()
        serve(5_000)
        assert memory() <= half_way + 1000
    finally:
        tracemalloc.stop()


def test_the_ten_thousandth_emission_takes_the_calls_of_the_tenth():
    def calls_of_an_emission():
        calls = []
        gc.disable()  # its callbacks would be among the calls
        sys.setprofile(lambda frame, event, argument: calls.append((event, frame.f_code.co_name)))
        try:
            spend(hook, agent)
        finally:
            sys.setprofile(None)
            gc.enable()
        return calls

    hook, agent = TokenUsageHook(emitter=lambda event: None), make_agent()
    for _ in range(9):
        spend(hook, agent)
    tenth = calls_of_an_emission()
    for _ in range(9_989):
        spend(hook, agent)
    assert calls_of_an_emission() == tenth


def test_a_log_line_holds_the_event_as_compact_json(caplog):
    make_agent(hooks=[TokenUsageHook(emitter=fail)])("hello")
    text = caplog.records[0].getMessage().partition("not delivered: ")[2]
    assert text == json.dumps(json.loads(text), separators=(",", ":"))
