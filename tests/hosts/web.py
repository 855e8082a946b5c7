"""A web service with an agent for each request, for gunicorn.

The hook is made when the module is imported: with `gunicorn --preload` that is before the fork.
"""

import os
import time

from strands.handlers.callback_handler import PrintingCallbackHandler

from helpers import make_agent, says
from strands_token_telemetry import TokenUsageHook

hook = TokenUsageHook()


def wsgi(environ, start_response):
    make_agent(says(), hooks=[hook], callback_handler=PrintingCallbackHandler())("hello")
    time.sleep(0.02)  # so that the other worker takes the next request
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
