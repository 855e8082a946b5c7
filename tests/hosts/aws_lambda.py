"""A Lambda function: its agent lives as long as its process, as on a warm start."""

import logging

from strands.handlers.callback_handler import PrintingCallbackHandler

from helpers import fails, make_agent, says, uses
from strands_token_telemetry import TokenUsageHook

hook = TokenUsageHook()
agent = make_agent(uses("look_up"), says(), hooks=[hook], callback_handler=PrintingCallbackHandler())
unlucky = make_agent(uses("look_up"), fails(), hooks=[hook])


def handler(event, context):
    logging.getLogger().warning("a question came in")
    return str((unlucky if event["prompt"] == "fail" else agent)(event["prompt"]))
