"""The agents of the nodes of a graph or a swarm. This module needs Strands 1.23 or later."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from strands import Agent
from strands.hooks import HookProvider, HookRegistry, MultiAgentInitializedEvent

from strands_token_telemetry.log import log, warn_once


class NodeHooks(HookProvider):
    """A Strands hook provider that calls a function with each agent of a graph or a swarm.

    It does so once, when the nodes are there. Nested graphs and swarms are included. A node that is anything
    else, such as a function or an agent on another machine, is left out with a warning.
    """

    def __init__(self, serve: Callable[[Agent], None]) -> None:
        self._serve = serve

    def register_hooks(self, registry: HookRegistry, **kwargs: Any) -> None:
        """Register a callback for an event that only graphs and swarms have."""
        # A swarm has no nodes yet when it initializes its plugins, so nothing earlier will do.
        registry.add_callback(MultiAgentInitializedEvent, self._on_initialized)

    def _on_initialized(self, event: MultiAgentInitializedEvent) -> None:
        try:
            self._visit(type(event.source).__name__, event.source)
        except Exception:
            log(logging.ERROR, "some nodes may not be counted; give the hook to their agents too")

    def _visit(self, name: str, executor: object) -> None:
        nodes = getattr(executor, "nodes", None)
        if isinstance(executor, Agent):
            self._serve(executor)
        elif isinstance(nodes, dict):
            for node_id, node in nodes.items():
                self._visit(node_id, node.executor)
        else:
            warn_once(
                "node %r is not a Strands agent, so its tokens are not counted; if it calls agents, "
                "give them the hook",
                name,
            )
