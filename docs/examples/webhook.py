"""Post each event to a URL from a background thread, so that a slow server does not hold up the agent.

Start the thread after a fork, because threads do not survive one, and not on AWS Lambda, which freezes
threads between invocations. Events that are still waiting when the program ends are lost.
"""

import json
import logging
import queue
import threading
from urllib.request import Request, urlopen

from strands import Agent
from strands_token_telemetry import TokenUsageHook

url = "https://metrics.example.com/tokens"
waiting = queue.Queue(1000)


def post_events():
    """Post what is waiting, and log what could not be delivered."""
    while True:
        body = json.dumps(waiting.get())
        try:
            request = Request(url, body.encode(), {"Content-Type": "application/json"})
            urlopen(request, timeout=5).close()
        except Exception:
            logging.getLogger(__name__).exception("not delivered: %s", body)


threading.Thread(target=post_events, daemon=True).start()
agent = Agent(hooks=[TokenUsageHook(emitter=waiting.put_nowait)])
