"""The agents of the nodes of a graph or a swarm. This module needs Strands 1.23 or later."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from strands import Agent
from strands.hooks import (
    BeforeMultiAgentInvocationEvent,
    HookProvider,
    HookRegistry,
    MultiAgentInitializedEvent,
)

from strands_token_telemetry.log import log, warn_once


class NodeHooks(HookProvider):
    """A Strands hook provider that calls a function with each agent of a graph or a swarm.

    Nested graphs and swarms are included. A node that is anything else, such as a function or an agent on
    another machine, is left out with a warning.
    """

    def __init__(self, serve: Callable[[Agent], None]) -> None:
        self._serve = serve

    def register_hooks(self, registry: HookRegistry, **kwargs: Any) -> None:
        """Register a callback for two events that only graphs and swarms have."""
        # A swarm has no nodes yet when it initializes its plugins, so nothing earlier will do.
        registry.add_callback(MultiAgentInitializedEvent, self._serve_nodes)
        # Before each run, too, because the hook may have been added, or a node replaced, since then.
        registry.add_callback(BeforeMultiAgentInvocationEvent, self._serve_nodes)

    def _serve_nodes(self, event: MultiAgentInitializedEvent | BeforeMultiAgentInvocationEvent) -> None:
        try:
            self._visit(type(event.source).__name__, event.source)
        except Exception:
            log(logging.ERROR, "some nodes may not be counted; give the hook to their agents too")

    def _visit(self, name: str, member: object) -> None:
        nodes = getattr(member, "nodes", None)
        if isinstance(member, Agent):
            self._serve(member)
        elif isinstance(nodes, dict):
            for node_id, node in nodes.items():
                self._visit(node_id, getattr(node, "executor", node))
        else:
            warn_once(
                "%r has no agents that the hook can reach, so its tokens are not counted; "
                "if it calls agents, give them the hook",
                name,
            )
