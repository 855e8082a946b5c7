"""Log each event as one line to a file, for the CloudWatch agent or another program that ships logs."""

import json
from pathlib import Path

from strands import Agent

from strands_token_telemetry import TokenUsageHook


def log_to_file(event):
    """Append a line. The file is opened each time, because it may have been rotated."""
    with Path("tokens.log").open("a") as file:
        file.write(json.dumps(event) + "\n")


file_agent = Agent(hooks=[TokenUsageHook(emitter=log_to_file)])
