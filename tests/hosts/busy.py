"""Four threads that call agents until stdin is closed, with docs/examples/cloudwatch_agent_socket.py.

Each call has a number of its own. In the end the program prints how many there were.
"""

import itertools
import logging
import runpy
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from helpers import make_agent, says
from strands_token_telemetry import TokenUsageHook

logging.basicConfig(stream=sys.stderr)
recipe = runpy.run_path(str(Path(__file__).parents[2] / "docs/examples/cloudwatch_agent_socket.py"))
hook = TokenUsageHook(
    emitter=recipe["CloudWatchAgentSocket"]("agents/tokens", port=int(sys.argv[1])),
    property_resolver=lambda event: {"Call": next(numbers)},
)
numbers = itertools.count()
stop = threading.Event()


def call():
    while not stop.is_set():
        make_agent(says(), hooks=[hook])("hello")
        time.sleep(0.01)


with ThreadPoolExecutor(4) as pool:
    callers = [pool.submit(call) for _ in range(4)]
    sys.stdin.read()
    stop.set()
for caller in callers:
    caller.result()  # no agent's call may fail because of the emitter
print(next(numbers))
