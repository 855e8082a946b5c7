"""Write each event with a Python logger that `dictConfig` sets up, as a line of bare JSON on stderr.

Put what is about `bare`, `tokens` and `token_usage` into your own configuration. For stdout, add
`"stream": "ext://sys.stdout"` to the handler, and begin the format with a newline, because a streamed answer
may stand before the JSON.
"""

import json
import logging.config

from strands import Agent
from strands_token_telemetry import TokenUsageHook

logging.config.dictConfig(
    {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "bare": {"format": "%(message)s"},  # nothing before the JSON
            "usual": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"},
        },
        "handlers": {
            "tokens": {"class": "logging.StreamHandler", "formatter": "bare"},
            "console": {"class": "logging.StreamHandler", "formatter": "usual"},
        },
        "root": {"level": "WARNING", "handlers": ["console"]},
        "loggers": {"token_usage": {"level": "INFO", "handlers": ["tokens"], "propagate": False}},
    }
)
logger = logging.getLogger("token_usage")
hook = TokenUsageHook(emitter=lambda event: logger.info(json.dumps(event)))
agent = Agent(hooks=[hook])
