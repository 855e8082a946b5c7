"""Post each event to a URL, from a thread, so that a slow server does not hold up the Strands agent.

Create a `Webhook` after a fork, because threads do not survive one. Do not use it on AWS Lambda, which
freezes threads between invocations.
"""

import atexit
import collections
import json
import logging
import threading
import time
from urllib.request import Request, urlopen

from strands import Agent

from strands_token_telemetry import TokenUsageHook


class Webhook:
    """An emitter that raises if `size` events are waiting; the hook then logs the event."""

    def __init__(self, url, size=1000):
        self.url, self.size, self.waiting = url, size, collections.deque()
        self.ready = threading.Semaphore(0)
        threading.Thread(target=self.post_all, daemon=True).start()
        atexit.register(self.close)

    def __call__(self, event):
        if len(self.waiting) >= self.size:
            raise RuntimeError("the queue is full")
        self.waiting.append(json.dumps(event))
        self.ready.release()

    def post_all(self):
        while self.ready.acquire():
            line = self.waiting[0]  # removed when posted, so that close() sees it
            try:
                request = Request(self.url, line.encode(), {"Content-Type": "application/json"})
                urlopen(request, timeout=5).close()
            except Exception:
                logging.getLogger("strands_token_telemetry").exception("not delivered: %s", line)
            self.waiting.popleft()

    def close(self, patience=5):
        deadline = time.monotonic() + patience
        while self.waiting and time.monotonic() < deadline:
            time.sleep(0.01)
        for line in self.waiting.copy():
            logging.getLogger("strands_token_telemetry").error("not delivered: %s", line)


webhook_agent = Agent(hooks=[TokenUsageHook(emitter=Webhook("https://metrics.example.com/tokens"))])
