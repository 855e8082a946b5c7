"""What the hook costs, beside another version, whose `src` is the argument. `.ci/run benchmark` takes 0.1.0.

All take turns in one process. Stdout is a pipe without a buffer, so that each event is written at once. What
Strands does, such as making the event that the hook gets, is not part of a time.
"""

import io
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from time import perf_counter_ns

from strands.agent.agent_result import AgentResult
from strands.hooks import AfterInvocationEvent

from helpers import make_agent

PACKAGE = "strands_token_telemetry"
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
    """Import the package, from a folder if one is given, and forget it, so that another can be imported."""
    sys.path[:0] = folder
    package = import_module(PACKAGE)
    del sys.path[: len(folder)]
    for name in [name for name in sys.modules if name.startswith(PACKAGE)]:
        del sys.modules[name]
    return package


def time(function, *args, **kwargs):
    """Return the microseconds that a call takes."""
    start = perf_counter_ns()
    function(*args, **kwargs)
    return (perf_counter_ns() - start) / 1000


# Each function below returns a function that measures something once.


def emission(package):
    hook, agent = package.TokenUsageHook(**SETTINGS), make_agent()
    metrics = agent.event_loop_metrics
    result = AgentResult("end_turn", {"role": "assistant", "content": []}, metrics, {})

    def measure():
        for name, count in USAGE.items():
            metrics.accumulated_usage[name] = metrics.accumulated_usage.get(name, 0) + count
        return time(hook._on_after_invocation, AfterInvocationEvent(agent=agent, result=result))

    return measure


def encoding_and_writing(package):
    event = package.build_emf_payload(usage=USAGE, **SETTINGS)

    def write():
        sys.stdout.write(json.dumps(event, separators=(",", ":")) + "\n")
        sys.stdout.flush()

    return lambda: time(write)


def building(package):
    return lambda: time(package.build_emf_payload, usage=USAGE, **SETTINGS)


def importing(package):
    """Measure in a new Python, with bytecode, and without what site imports for editable installs."""
    code = f"import sys, time; sys.path.insert(0, {str(Path(package.__file__).parents[1])!r})\n"
    code += f"start = time.perf_counter_ns(); import {PACKAGE}; print(time.perf_counter_ns() - start)"
    command = [sys.executable, "-S", "-c", code]

    def measure():
        return int(subprocess.run(command, capture_output=True, check=True).stdout) / 1000

    measure()  # writes the bytecode
    return measure


def in_turns(rounds, *measures):
    """Return what each function measures, as text; in a round they take turns."""
    times = [[] for _ in measures]
    for number in range(rounds):
        for index in sorted(range(len(measures)), reverse=number % 2):
            times[index].append(measures[index]())
    return [f"{min(one):,.1f} µs, {statistics.median(one):,.1f} µs" for one in times]


def rows(package, other):
    emissions = emission(package), emission(other), encoding_and_writing(package)
    *both, bare = in_turns(3000, *emissions)
    yield "An emission", *both
    yield "Only encoding and writing its event", bare, ""
    yield "`build_emf_payload`", *in_turns(3000, building(package), building(other))
    yield "An import", *in_turns(40, importing(package), importing(other))


def main():
    drain = [sys.executable, "-c", "import os\nwhile os.read(0, 65536): pass"]
    reader, terminal = subprocess.Popen(drain, stdin=subprocess.PIPE, bufsize=0), sys.stdout
    with tempfile.TemporaryDirectory() as cache:
        os.environ |= {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": cache}
        sys.stdout = io.TextIOWrapper(reader.stdin, write_through=True)
        table = list(rows(load(), load(sys.argv[1])))
        sys.stdout.close()
        sys.stdout = terminal
    reader.wait()
    print(f"Python {platform.python_version()}, {platform.machine()}, Strands {version('strands-agents')}\n")
    for row in [("best, median", "this version", "the other version"), ["---"] * 3, *table]:
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
