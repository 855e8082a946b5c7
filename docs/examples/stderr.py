"""Write each event as one line to stderr, for a program whose stdout is a protocol.

An MCP stdio server is such a program: any other text on its stdout breaks the connection. Do not use this
emitter in a program that forks while its agents run, because a child could inherit the lock while it is held.
"""

import json
import sys
import threading

from strands import Agent
from strands_token_telemetry import TokenUsageHook

stderr_lock = threading.Lock()


def write_to_stderr(event):
    """Write one line; the lock keeps those of different threads apart."""
    with stderr_lock:
        sys.stderr.write(json.dumps(event) + "\n")
        sys.stderr.flush()


# By default a Strands agent prints its answer on stdout; callback_handler=None turns that off.
agent = Agent(hooks=[TokenUsageHook(emitter=write_to_stderr)], callback_handler=None)
