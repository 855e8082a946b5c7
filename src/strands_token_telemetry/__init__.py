"""Strands Agents token usage as CloudWatch metrics: one hook, one line per invocation.

    agent = Agent(hooks=[TokenUsageHook()])

For coding assistants: the wheel has the guide for exactly this version, `strands_token_telemetry/llms.txt`.
"""

from strands_token_telemetry.emf import build_emf_payload
from strands_token_telemetry.emitters import default_emitter
from strands_token_telemetry.hook import TokenUsageHook

__version__ = "0.2.0"

__all__ = ["TokenUsageHook", "__version__", "build_emf_payload", "default_emitter"]
