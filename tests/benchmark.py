"""What an emission costs, next to the least it could and to other libraries: `python tests/benchmark.py`.

All in one process, in turns, on an unbuffered stdout that is a pipe; each ratio is the median over
the rounds. Install aws-embedded-metrics and aws-lambda-powertools to see them compared.
"""

import io
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from importlib.metadata import version

from strands.hooks import AfterInvocationEvent

from scripted import make_agent, says
from strands_token_telemetry import TokenUsageHook, build_emf_payload

ROUNDS, EMISSIONS, CALLS = 300, 20, 3
NAMESPACE, VALUES = "MyTeam/Tokens", {"Model": "scripted-1", "Environment": "prod"}
PROPERTIES = {"session": "8f14e45f-ceea-467f-a8b0-4c7f1f9c1d2e", "tenant": "acme"}
USAGE = {"inputTokens": 1200, "outputTokens": 350, "totalTokens": 1550}
USAGE |= {"cacheReadInputTokens": 900, "cacheWriteInputTokens": 100}
SETTINGS = {
    "namespace": NAMESPACE,
    "dimensions": [list(VALUES)],
    "dimension_values": VALUES,
    "extra_properties": PROPERTIES,
}


def emission():
    hook, agent = TokenUsageHook(**SETTINGS), make_agent()
    accumulated, event = agent.event_loop_metrics.accumulated_usage, AfterInvocationEvent(agent=agent)

    def emit():
        for name, count in USAGE.items():
            accumulated[name] = accumulated.get(name, 0) + count
        hook._on_after_invocation(event)

    return emit


def least(encode):
    event = build_emf_payload(usage=USAGE, **SETTINGS)

    def emit():
        sys.stdout.write(encode(event) + "\n")
        sys.stdout.flush()

    return emit


def embedded_metrics():
    os.environ["AWS_EMF_ENVIRONMENT"] = "Lambda"
    from aws_embedded_metrics.logger.metrics_logger_factory import create_metrics_logger

    def emit():
        logger = create_metrics_logger()
        logger.set_namespace(NAMESPACE)
        logger.set_dimensions(VALUES)
        for name, value in PROPERTIES.items():
            logger.set_property(name, value)
        for name, count in USAGE.items():
            logger.put_metric(name, count, "Count")
        for _ in logger.flush().__await__():  # without an event loop, which would only cost more
            pass

    return emit


def powertools():
    from aws_lambda_powertools.metrics import EphemeralMetrics

    metrics = EphemeralMetrics(namespace=NAMESPACE)

    def emit():
        for name, value in VALUES.items():
            metrics.add_dimension(name, value)
        for name, value in PROPERTIES.items():
            metrics.add_metadata(name, value)
        for name, count in USAGE.items():
            metrics.add_metric(name, "Count", count)
        metrics.flush_metrics()

    return emit


def call(*hooks):
    agent = make_agent(says(tokens=(1200, 350)), hooks=hooks)

    def invoke():
        agent.messages.clear()  # a conversation that grows would make each call dearer
        agent("hello")

    return invoke


def microseconds(times, **functions):
    """Return the times of a call of each function, one for each round; in a round they take turns."""
    rounds = {name: [] for name in functions}
    for n in range(ROUNDS):
        for name in sorted(functions, reverse=n % 2):
            start = time.perf_counter_ns()
            for _ in range(times):
                functions[name]()
            rounds[name].append((time.perf_counter_ns() - start) / times / 1000)
    return rounds


def ratio(one, other, costs):
    median = statistics.median(a / b for a, b in zip(costs[one], costs[other], strict=True))
    return f"{one} / {other}: {median:.2f} (at best {min(costs[one]):.1f} us / {min(costs[other]):.1f} us)"


def measure():
    yield f"Python {platform.python_version()} on {platform.machine()}, Strands {version('strands-agents')}"
    compact = {"separators": (",", ":")}
    limits = {
        "json.dumps + write + flush": least(lambda event: json.dumps(event, **compact)),
        "JSONEncoder made once + write + flush": least(json.JSONEncoder(**compact).encode),
    }
    others = {}
    for name, make in {"aws-embedded-metrics": embedded_metrics, "aws-lambda-powertools": powertools}.items():
        try:
            others[f"{name} {version(name)}"] = make()
        except ImportError:
            yield f"{name} is not installed"
    costs = microseconds(EMISSIONS, emission=emission(), **limits, **others)
    yield from (ratio("emission", name, costs) for name in limits)
    yield from (ratio(name, "emission", costs) for name in others)
    calls = {"call with the hook": call(TokenUsageHook(**SETTINGS)), "call without it": call()}
    yield ratio(*calls, microseconds(CALLS, **calls))


def main():
    drain = [sys.executable, "-c", "import os\nwhile os.read(0, 65536): pass"]
    reader, terminal = subprocess.Popen(drain, stdin=subprocess.PIPE, bufsize=0), sys.stdout
    sys.stdout = io.TextIOWrapper(reader.stdin, write_through=True)
    try:
        lines = list(measure())
    finally:
        sys.stdout.close()
        sys.stdout = terminal
        reader.wait()
    print("\n".join(lines))


if __name__ == "__main__":
    main()
