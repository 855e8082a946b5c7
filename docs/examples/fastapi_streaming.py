"""Stream an agent's answer from FastAPI, with the session ID of the request on the line.

Save it as `fastapi_streaming.py` and run it with `uvicorn fastapi_streaming:app`. Then ask:

    curl -N -H "X-Session-Id: s-1" "http://127.0.0.1:8000/ask?prompt=Hello"
"""

from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Annotated

from fastapi import FastAPI, Header
from fastapi.responses import StreamingResponse
from strands import Agent
from strands_token_telemetry import TokenUsageHook

session: ContextVar[str | None] = ContextVar("session", default=None)
hook = TokenUsageHook(property_resolver=lambda event: {"SessionId": session.get()})
app = FastAPI()


async def answer(prompt: str) -> AsyncIterator[str]:
    """Yield the text of the answer."""
    agent = Agent(hooks=[hook], callback_handler=None)
    async for event in agent.stream_async(prompt):
        if "data" in event:
            yield event["data"]


@app.get("/ask")
async def ask(prompt: str, x_session_id: Annotated[str, Header()]) -> StreamingResponse:
    """Set the session here, in an `async def`; what a `def` or a `def` dependency sets is lost."""
    session.set(x_session_id)
    return StreamingResponse(answer(prompt), media_type="text/plain")
