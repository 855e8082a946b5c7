"""A program for the Amazon Bedrock AgentCore runtime: its entrypoint answers at once, or streams."""

import sys

from bedrock_agentcore import BedrockAgentCoreApp
from strands.handlers.callback_handler import PrintingCallbackHandler

from helpers import make_agent, says
from strands_token_telemetry import TokenUsageHook

app = BedrockAgentCoreApp()
agent = make_agent(says(), hooks=[TokenUsageHook()], callback_handler=PrintingCallbackHandler())


def answers(payload):
    return str(agent(payload["prompt"]))


async def streams(payload):
    async for event in agent.stream_async(payload["prompt"]):
        if "data" in event:
            yield event["data"]


app.entrypoint({"answers": answers, "streams": streams}[sys.argv[1]])
app.run(fd=int(sys.argv[2]))
