"""What an emission costs, next to the least it could and to the earlier package of this name.

    pip download --no-binary :all: --no-deps strands-token-telemetry==0.1.0
    tar -xzf strands_token_telemetry-0.1.0.tar.gz
    python tests/benchmark.py strands_token_telemetry-0.1.0/src

All candidates take turns in one process, on an unbuffered stdout that is a pipe. Each emission has a new
event, as in Strands. The earlier package does less: its values are cumulative, and nothing is checked.
"""

import io
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

from strands.agent.agent_result import AgentResult
from strands.hooks import AfterInvocationEvent

from helpers import make_agent, says

PACKAGE = "strands_token_telemetry"
ROUNDS, EMISSIONS, CALLS, IMPORTS = 300, 20, 3, 30
VALUES = {"Model": "scripted-1", "Environment": "prod"}
USAGE = {"inputTokens": 1200, "outputTokens": 350, "totalTokens": 1550}
USAGE |= {"cacheReadInputTokens": 900, "cacheWriteInputTokens": 100}
SETTINGS = {
    "namespace": "MyTeam/Tokens",
    "dimensions": [list(VALUES)],
    "dimension_values": VALUES,
    "extra_properties": {"session": "8f14e45f-ceea-467f-a8b0-4c7f1f9c1d2e", "tenant": "acme"},
}


def load(*folder):
    """Import the package, from a folder if one is given, and forget its modules so that two never mix."""
    sys.path[:0] = folder
    package = import_module(PACKAGE)
    del sys.path[: len(folder)]
    for name in [name for name in sys.modules if name.startswith(PACKAGE)]:
        del sys.modules[name]
    return package


def emission(package):
    hook, agent = package.TokenUsageHook(**SETTINGS), make_agent()
    metrics = agent.event_loop_metrics
    result = AgentResult("end_turn", {"role": "assistant", "content": []}, metrics, {})

    def emit():
        for name, count in USAGE.items():
            metrics.accumulated_usage[name] = metrics.accumulated_usage.get(name, 0) + count
        hook._on_after_invocation(AfterInvocationEvent(agent=agent, result=result))

    return emit


def least(package):
    event, encode = package.build_emf_payload(usage=USAGE, **SETTINGS), json.JSONEncoder().encode

    def emit():
        sys.stdout.write(encode(event) + "\n")
        sys.stdout.flush()

    return emit


def call(*hooks):
    agent = make_agent(says(tokens=(1200, 350)), hooks=hooks)

    def invoke():
        agent.messages.clear()  # a conversation that grows would make each call dearer
        agent("hello")

    return invoke


def import_of(folder, cache):
    """Return a function that imports the package in a new Python, from the bytecode of the first time."""
    code = f"import sys, time; sys.path.insert(0, {str(folder)!r}); start = time.perf_counter_ns(); "
    code += f"import {PACKAGE}; print(time.perf_counter_ns() - start)"
    command = [sys.executable, "-S", "-c", code]  # -S: without what site imports, as for editable installs
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": cache}

    def run():
        return int(subprocess.run(command, capture_output=True, check=True, env=environment).stdout)

    return run


def in_turns(rounds, times, measured, **functions):
    """Return the microseconds of each function, a number for each round; in a round they take turns."""
    costs = {name: [] for name in functions}
    for number in range(rounds):
        for name in sorted(functions, reverse=number % 2):
            start = time.perf_counter_ns()
            results = [functions[name]() for _ in range(times)]
            nanoseconds = sum(results) if measured else time.perf_counter_ns() - start
            costs[name].append(nanoseconds / times / 1000)
    return costs


def ratio(one, other, costs):
    best = {name: min(costs[name]) for name in (one, other)}
    median = statistics.median(a / b for a, b in zip(costs[one], costs[other], strict=True))
    return (
        f"{one} / {other}: best {best[one] / best[other]:.2f}, median {median:.2f} "
        f"(at best {best[one]:.1f} us / {best[other]:.1f} us)"
    )


def measure(existing, cache):
    package = load()
    candidates = {"emission": emission(package), "encode + write + flush": least(package)}
    imports = {"import": import_of(Path(package.__file__).parents[1], cache)}
    if existing:
        candidates["emission of the earlier package"] = emission(load(existing))
        imports["import of the earlier package"] = import_of(existing, cache)
    costs = in_turns(ROUNDS, EMISSIONS, False, **candidates)
    yield from (ratio("emission", name, costs) for name in candidates if name != "emission")
    costs = in_turns(IMPORTS, 1, True, **imports)
    yield from (ratio("import", name, costs) for name in imports if name != "import")
    calls = {"call with the hook": call(package.TokenUsageHook(**SETTINGS)), "call without it": call()}
    yield ratio(*calls, in_turns(ROUNDS, CALLS, False, **calls))


def main():
    existing = str(Path(sys.argv[1]).resolve()) if len(sys.argv) > 1 else None
    drain = [sys.executable, "-c", "import os\nwhile os.read(0, 65536): pass"]
    reader, terminal = subprocess.Popen(drain, stdin=subprocess.PIPE, bufsize=0), sys.stdout
    sys.stdout = io.TextIOWrapper(reader.stdin, write_through=True)
    try:
        with tempfile.TemporaryDirectory() as cache:
            lines = list(measure(existing, cache))
    finally:
        sys.stdout.close()
        sys.stdout = terminal
        reader.wait()
    print(
        f"Python {platform.python_version()} on {platform.machine()}, Strands {version('strands-agents')}",
        *lines,
        sep="\n",
    )


if __name__ == "__main__":
    main()
