"""A web service with an agent for each request, for gunicorn (WSGI) and for uvicorn (ASGI).

The hook is made when the module is imported: with `gunicorn --preload` that is before the fork.
"""

import asyncio
import os
import time

from strands.handlers.callback_handler import PrintingCallbackHandler

from helpers import make_agent, says
from strands_token_telemetry import TokenUsageHook

hook = TokenUsageHook()
waiting = []


def new_agent():
    return make_agent(says(), hooks=[hook], callback_handler=PrintingCallbackHandler())


def wsgi(environ, start_response):
    new_agent()("hello")
    time.sleep(0.02)  # so that the other worker takes the next request
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]


async def asgi(scope, receive, send):
    await four_at_once()
    await new_agent().invoke_async("hello")
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})


async def four_at_once():
    """Return when four requests are here."""
    waiting.append(asyncio.get_running_loop().create_future())
    mine = waiting[-1]
    if len(waiting) == 4:
        for request in waiting:
            request.set_result(None)
        waiting.clear()
    await mine
