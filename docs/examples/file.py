"""Append each event as one line to a file, for the CloudWatch agent or another program that ships logs."""

import json
from pathlib import Path

from strands import Agent
from strands_token_telemetry import TokenUsageHook


def append_to_file(event):
    """Open the file for each event, because log rotation may have moved it."""
    with Path("tokens.log").open("a") as file:
        file.write(json.dumps(event) + "\n")


agent = Agent(hooks=[TokenUsageHook(emitter=append_to_file)])
