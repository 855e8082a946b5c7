"""On PYTHONPATH, this lets `Agent()` have an offline model in place of Bedrock's, in any program."""

import strands.agent.agent

from scripted import ScriptedModel

strands.agent.agent.BedrockModel = ScriptedModel
