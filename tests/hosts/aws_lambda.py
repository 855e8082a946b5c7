"""A Lambda function: its agent lives as long as its process, as on a warm start."""

import logging

from strands import tool
from strands.handlers.callback_handler import PrintingCallbackHandler

from scripted import fails, make_agent, says, uses
from strands_token_telemetry import TokenUsageHook


@tool
def look() -> str:
    """Look."""
    return "seen"


hook = TokenUsageHook()
agent = make_agent(
    uses("look"), says(), hooks=[hook], tools=[look], callback_handler=PrintingCallbackHandler()
)
unlucky = make_agent(uses("look"), fails(), hooks=[hook], tools=[look])


def handler(event, context):
    logging.getLogger().warning("a question came in")
    return str((unlucky if event["prompt"] == "fail" else agent)(event["prompt"]))
