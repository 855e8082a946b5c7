"""Stdout on a pipe under load, broken, and cut off: every line is whole, none is missing, none is extra."""

import os
import subprocess
import time

import pytest

from emf_checker import extract, parse
from scripted import start

THREADS, LINES = 8, 60

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")

EMIT = """
import random
from concurrent.futures import ThreadPoolExecutor
from strands.hooks import AfterInvocationEvent
from scripted import make_agent, says
from strands_token_telemetry import TokenUsageHook

def padding():
    return "é" * random.choice([random.randrange(500), random.randrange(500), 3400])

def numbered(event):
    return {"line": f"{event.agent.name}-{event.agent.state.get('n')}", "padding": padding()}

hook = TokenUsageHook(property_resolver=numbered)

def emit(thread):
    agent = make_agent(name=str(thread))
    for n in range(%d):
        agent.state.set("n", n)
        agent.event_loop_metrics.accumulated_usage["inputTokens"] += n
        agent.event_loop_metrics.accumulated_usage["totalTokens"] += n
        hook._on_after_invocation(AfterInvocationEvent(agent=agent))

with ThreadPoolExecutor(%d) as pool:
    list(pool.map(emit, range(%d)))
"""


def read_at_once(pipe):
    return pipe.read()


def read_slowly(pipe):
    chunks = []
    while chunk := os.read(pipe.fileno(), 8192):
        chunks.append(chunk)
        time.sleep(0.0005)
    return b"".join(chunks)


def tokens(lines):
    return sum(datum.value for line in lines for datum in extract(line) if datum.metric == "inputTokens")


@pytest.mark.parametrize("options", [["-u"], []], ids=["unbuffered", "buffered"])
@pytest.mark.parametrize("read", [read_at_once, read_slowly])
def test_many_threads_print_long_and_short_lines(options, read):
    with start(EMIT % (LINES, THREADS, THREADS), *options) as process:
        lines = read(process.stdout).decode("ascii").splitlines()
    assert process.returncode == 0
    # The first call of each thread spends nothing and, having no result, emits nothing.
    expected = sorted(f"{thread}-{n}" for thread in range(THREADS) for n in range(1, LINES))
    assert sorted(parse(line)["line"] for line in lines) == expected
    assert max(map(len, lines)) > 20_000
    assert tokens(lines) == THREADS * sum(range(LINES))


@pytest.mark.parametrize("options", [["-u"], []], ids=["unbuffered", "buffered"])
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
    assert errors.count("The answer.") == 3
    lost = [line.partition("not delivered: ")[2] for line in errors if "not delivered: " in line]
    assert tokens(lost) == 30
    # 120: Python itself could not flush a buffered stdout at its exit, as after a print.
    assert process.returncode == (0 if options else 120)


@pytest.mark.parametrize("end", ["os._exit(1)", "os.kill(os.getpid(), 9)"])
def test_a_process_that_is_killed_after_a_call_has_printed_its_line(end):
    script = f"""
        import os
        from scripted import make_agent
        from strands_token_telemetry import TokenUsageHook
        make_agent(hooks=[TokenUsageHook()])("hello")
        {end}
    """
    with start(script) as process:
        lines = process.stdout.read().decode().splitlines()
    assert process.returncode != 0
    assert tokens(lines) == 10


FORK = """
import io, os, signal, sys, threading
from scripted import make_agent
from strands.hooks import AfterInvocationEvent
from strands_token_telemetry import TokenUsageHook

entered, leave = threading.Event(), threading.Event()

class Pipe(io.RawIOBase):
    def writable(self):
        return True

    def write(self, data):
        meanwhile("write")
        return os.write(1, data)

class Metrics:
    @property
    def accumulated_usage(self):
        meanwhile("count")
        return {"inputTokens": 10, "outputTokens": 0, "totalTokens": 10}

def meanwhile(what):
    if what == sys.argv[1] and threading.current_thread() is thread:
        entered.set()
        leave.wait()

def emit():
    agent = make_agent()
    agent.event_loop_metrics = Metrics()
    hook._on_after_invocation(AfterInvocationEvent(agent=agent))

sys.stdout = io.TextIOWrapper(io.BufferedWriter(Pipe()), write_through=True)
hook = TokenUsageHook()
thread = threading.Thread(target=emit)
thread.start()
entered.wait()
threading.Timer(0.2, leave.set).start()  # a fork may wait for the thread
child = os.fork()
if not child:
    signal.alarm(3)
    emit()
    os._exit(0)
thread.join()
sys.exit(os.waitpid(child, 0)[1])
"""


@forks
@pytest.mark.parametrize("meanwhile", ["count", "write"])
def test_a_child_forked_while_a_thread_of_its_parent_emits_can_emit(meanwhile):
    with start(f"import sys; sys.argv[1:] = [{meanwhile!r}]\n{FORK}") as process:
        lines = process.stdout.read().decode().splitlines()
    assert process.returncode == 0
    assert tokens(lines) == 20


@forks
def test_a_child_forked_while_an_agent_is_asked_for_its_tokens_can_ask_for_them():
    script = """
    import os, signal, threading
    from strands_token_telemetry.usage import UsageMemory

    class Metrics:
        @property
        def accumulated_usage(self):
            if threading.current_thread() is thread:
                entered.set()
                leave.wait()
            return {"inputTokens": 10}

    entered, leave, memory, metrics = threading.Event(), threading.Event(), UsageMemory(), Metrics()
    thread = threading.Thread(target=memory.spent, args=[metrics])
    thread.start()
    entered.wait()
    if not os.fork():
        signal.alarm(3)
        print(memory.spent(metrics), flush=True)
        os._exit(0)
    os.wait()
    leave.set()
    """
    with start(script) as process:
        assert process.stdout.read() == b"{'inputTokens': 10}\n"
