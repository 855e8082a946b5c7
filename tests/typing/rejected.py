"""Mistakes; mypy rejects every line that says so, and would call an unused `type: ignore` an error."""

from __future__ import annotations

from typing import Any

from strands_token_telemetry import TokenUsageHook, build_emf_payload, default_emitter


async def emit_later(payload: dict[str, Any]) -> None: ...


TokenUsageHook("Team/Tokens")  # type: ignore[call-arg]
TokenUsageHook(namespace=7)  # type: ignore[arg-type]
TokenUsageHook(dimensions=["Model"])  # type: ignore[list-item]
TokenUsageHook(dimensions="Model")  # type: ignore[arg-type]
TokenUsageHook(dimension_values={"Model": 7})  # type: ignore[dict-item]
TokenUsageHook(dimension_resolver=lambda event: "Model")  # type: ignore[arg-type, return-value]
TokenUsageHook(property_resolver={"SessionId": "s"})  # type: ignore[arg-type]
TokenUsageHook(extra_properties=["SessionId"])  # type: ignore[arg-type]
TokenUsageHook(emitter=emit_later)  # type: ignore[arg-type]
TokenUsageHook(colour="red")  # type: ignore[call-arg]
build_emf_payload({"inputTokens": 1})  # type: ignore[call-arg]
build_emf_payload(usage={"inputTokens": 1}, namespace="n", dimensions=[[]])  # type: ignore[call-arg]
default_emitter("text")  # type: ignore[arg-type]
