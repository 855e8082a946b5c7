"""What users write; mypy accepts every line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from strands import Agent
from strands.hooks import AfterInvocationEvent, HookProvider
from strands.multiagent import GraphBuilder, Swarm
from strands.plugins import MultiAgentPlugin, Plugin

import strands_token_telemetry
from strands_token_telemetry import TokenUsageHook, build_emf_payload, default_emitter
from strands_token_telemetry.hook import Emitter


def resolve_dimensions(event: AfterInvocationEvent) -> dict[str, str]:
    return {"AgentName": event.agent.name}


def resolve_properties(event: AfterInvocationEvent) -> dict[str, Any]:
    return {"SessionId": event.invocation_state.get("session_id"), "tags": ["a"]}


def emit(payload: dict[str, Any]) -> None:
    payload["Host"] = "a"
    default_emitter(payload)


hook = TokenUsageHook(namespace="A", dimensions=[["Model"], ["B", "C"], []], dimension_values={"B": "prod"})
TokenUsageHook(dimension_resolver=resolve_dimensions, property_resolver=resolve_properties)
TokenUsageHook(extra_properties={"Version": 7, "nested": {"a": [1, None]}}, emitter=emit)
provider: HookProvider = hook
plugin: Plugin = hook
orchestrator_plugin: MultiAgentPlugin = hook
agent = Agent(hooks=[hook, TokenUsageHook()], plugins=[hook, TokenUsageHook()])
Swarm([agent], hooks=[hook], plugins=[hook])
GraphBuilder().set_hook_providers([hook]).set_plugins([hook])
TokenUsageHook(namespace=None, dimensions=None, dimension_values=None, dimension_resolver=None)
TokenUsageHook(extra_properties=None, property_resolver=None, emitter=None)

events: list[dict[str, Any]] = []
TokenUsageHook(emitter=events.append)
TokenUsageHook(emitter=lambda payload: None)
TokenUsageHook(dimension_resolver=lambda event: {"AgentName": event.agent.name, "Model": None})

namespace: str = hook.namespace
dimensions: list[list[str]] = hook.dimensions
emitter: Callable[[dict[str, Any]], None] = hook.emitter
same_type: Emitter = emit

usage = {"inputTokens": 1}
values = {"Model": "m"}
event: dict[str, Any] = build_emf_payload(
    usage=usage, namespace="A", dimensions=[["Model"]], dimension_values=values, extra_properties={"B": "c"}
)
build_emf_payload(
    usage=usage, namespace="A", dimensions=[[]], dimension_values=values, timestamp_ms=1_700_000
)
version: str = strands_token_telemetry.__version__
