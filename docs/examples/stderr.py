"""Write each event as one line to stderr, for a program whose stdout is a protocol.

An MCP stdio server is such a program: any other text on its stdout breaks the connection.
"""

import json
import sys
import threading

from strands import Agent

from strands_token_telemetry import TokenUsageHook

stderr_lock = threading.Lock()  # without it, threads mix their lines if these are long


def write_to_stderr(event):
    """Write the event and its newline in one go."""
    line = json.dumps(event) + "\n"
    with stderr_lock:
        sys.stderr.write(line)
        sys.stderr.flush()


# By default a Strands agent prints its answer on stdout; callback_handler=None turns that off.
stderr_agent = Agent(hooks=[TokenUsageHook(emitter=write_to_stderr)], callback_handler=None)
