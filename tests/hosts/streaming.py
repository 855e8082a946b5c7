"""docs/examples/fastapi_streaming.py, whose agents have an offline model.

If the prompt is "wait", the model does not end its second reply.
"""

import runpy
from pathlib import Path

import strands.agent.agent

from helpers import ScriptedModel, hangs, says, uses


class OfflineModel(ScriptedModel):
    def stream(self, messages, *args, **kwargs):
        prompt = messages[0]["content"][0]["text"]
        self.turns = [uses("look_up", tokens=(20, 3)), hangs()] if prompt == "wait" else [says()]
        return super().stream(messages, *args, **kwargs)


strands.agent.agent.BedrockModel = OfflineModel
app = runpy.run_path(str(Path(__file__).parents[2] / "docs/examples/fastapi_streaming.py"))["app"]
