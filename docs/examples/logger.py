"""Write each event with a Python logger, as a line of bare JSON."""

import json
import logging

from strands import Agent
from strands_token_telemetry import TokenUsageHook

logger = logging.getLogger("token_usage")
logger.setLevel(logging.INFO)
logger.propagate = False  # the root logger would print the event again, perhaps with a prefix
if not logger.handlers:  # a second handler would write each line twice
    logger.addHandler(logging.StreamHandler())  # to stderr; without a formatter it adds no prefix

hook = TokenUsageHook(emitter=lambda event: logger.info(json.dumps(event)))
agent = Agent(hooks=[hook])
