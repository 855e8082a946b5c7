"""TokenUsageHook: after each invocation of a Strands agent, one event with the tokens it has spent."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from strands_token_telemetry import checks, emf
from strands_token_telemetry.emitters import default_emitter, encode
from strands_token_telemetry.log import log, warn_once
from strands_token_telemetry.usage import take_unreported

if TYPE_CHECKING:
    from strands import Agent
    from strands.hooks import AfterInvocationEvent, HookRegistry
    from strands.multiagent.base import MultiAgentBase
    from strands.plugins import MultiAgentPlugin, Plugin

    class _Plugin(Plugin, MultiAgentPlugin): ...
else:
    _Plugin = object  # Strands looks at the attributes of a plugin, not at its class

__all__ = ["Emitter", "TokenUsageHook", "default_emitter"]

Emitter = Callable[[dict[str, Any]], None]

_NAMESPACE = "Strands/AgentTokenUsage"


class TokenUsageHook(_Plugin):
    """A Strands hook provider and plugin that emits an EMF event with the tokens of each invocation.

    `Agent(hooks=[TokenUsageHook()])` works with Strands 1.0 and later. `Agent(plugins=[TokenUsageHook()])`
    does the same with 1.28 and later. A graph or swarm that has the hook in `hooks` (1.23 and later) or in
    `plugins` (1.41 and later) gives it to the agents of all its nodes that have no `TokenUsageHook` yet;
    agents that these use as tools need it themselves.

    One hook may serve many agents in many threads, so make it once. The events of an agent always sum to
    its `event_loop_metrics.accumulated_usage`: each reports what was added since the previous one, so that
    the tokens of reused agents and of failed or resumed calls are counted once. With Strands 1.43 and later,
    the hook runs before all other after-invocation hooks, so its resolvers do not see what those change.
    With earlier ones list it last; if there are plugins, last in `plugins`. Once created, the hook raises no
    `Exception` into the agent; it logs errors to the logger `strands_token_telemetry`.

    Args:
        namespace: CloudWatch namespace. `build_emf_payload` says which names CloudWatch accepts.
        dimensions: Dimension sets, `[["Model"]]` by default. CloudWatch keeps (and bills) a metric for
            each set and each combination of its values. `build_emf_payload` has the limits.
        dimension_values: Fixed values, by dimension.
        dimension_resolver: Called with each `AfterInvocationEvent`. It returns values by dimension, which
            win over `dimension_values`. A dimension without a value uses the property of the same name,
            then the hook's own value (`Model`: the model ID; `AgentName`: the agent's name), and otherwise
            `"unknown"`. `None` counts as missing. A value for any other name becomes a property.
        extra_properties: Extra fields on every event, which you can query in Logs Insights. They are not
            metrics. `None` counts as missing.
        property_resolver: Called with each `AfterInvocationEvent`. It returns further properties, such as a
            session ID, which win over `extra_properties`.
        emitter: Called with each event, in the thread of the agent. The event is a dict of plain JSON
            data, which the emitter may change. If the emitter raises, the hook logs the event.
            `default_emitter` prints it as one line on stdout.

    `None` means the default. Each argument can be read back under its name; lists and dicts are copies.

    Raises:
        TypeError: An argument has the wrong type, or a function is async or a class. The message names the
            parameter and says what to write.
        ValueError: CloudWatch would reject an event with this argument.

    Example:
        >>> from strands_token_telemetry import TokenUsageHook
        >>> hook = TokenUsageHook(
        ...     dimensions=[["Model"], ["Model", "Environment"]],
        ...     dimension_values={"Environment": "prod"},
        ... )
        >>> hook.namespace
        'Strands/AgentTokenUsage'
    """

    def __init__(
        self,
        *,
        namespace: str | None = _NAMESPACE,
        dimensions: list[list[str]] | None = None,
        dimension_values: Mapping[str, str | None] | None = None,
        dimension_resolver: Callable[[AfterInvocationEvent], Mapping[str, str | None]] | None = None,
        extra_properties: Mapping[str, Any] | None = None,
        property_resolver: Callable[[AfterInvocationEvent], Mapping[str, Any]] | None = None,
        emitter: Emitter | None = None,
    ) -> None:
        self.namespace = _NAMESPACE if namespace is None else checks.check_namespace(namespace)
        self.dimensions = [["Model"]] if dimensions is None else checks.check_dimensions(dimensions)
        self.dimension_values = (
            {} if dimension_values is None else checks.check_mapping("dimension_values", dimension_values)
        )
        self.dimension_resolver = checks.check_function("dimension_resolver", dimension_resolver)
        self.extra_properties = (
            None if extra_properties is None else checks.check_mapping("extra_properties", extra_properties)
        )
        self.property_resolver = checks.check_function("property_resolver", property_resolver)
        self.emitter = checks.check_function("emitter", default_emitter if emitter is None else emitter)

    def register_hooks(self, registry: HookRegistry, **kwargs: Any) -> None:
        """Register the hook. Strands calls this for `hooks=[...]`.

        Args:
            registry: The hook registry of an agent, a graph or a swarm. Registering a second time changes
                nothing, so that a hook listed twice emits one event for each invocation.
            **kwargs: Ignored. Strands may add some.
        """
        from strands.hooks import AfterInvocationEvent

        registered = _hooks_of(registry)
        if self in registered:
            return
        registered.append(self)
        try:
            # Before all others: if another callback raises, Strands does not call the remaining ones.
            registry.add_callback(AfterInvocationEvent, self._on_after_invocation, order=float("-inf"))
        except TypeError:  # Strands before 1.43 has no `order`
            registry.add_callback(AfterInvocationEvent, self._on_after_invocation)
        with contextlib.suppress(ImportError):  # Strands before 1.23 has no event for graphs and swarms
            from strands_token_telemetry.orchestrators import NodeHooks

            registry.add_hook(NodeHooks(self._add_to_node))

    def init_agent(self, agent: Agent) -> None:
        """Add the hook to an agent. Strands calls this for `plugins=[...]`."""
        agent.hooks.add_hook(self)

    def init_multi_agent(self, orchestrator: MultiAgentBase) -> None:
        """Add the hook to a graph or a swarm. Strands calls this for `plugins=[...]`."""
        orchestrator.hooks.add_hook(self)  # type: ignore[attr-defined]  # graphs and swarms have it

    def _add_to_node(self, agent: Agent) -> None:
        """Add the hook to an agent that has none. A second one would count its tokens again."""
        registered = _hooks_of(agent.hooks)
        if not registered:
            agent.hooks.add_hook(self)
        elif self not in registered:
            warn_once(
                "agent %r keeps its first TokenUsageHook, so that of its graph or swarm does not count it; "
                "make one hook and use it everywhere, with one emitter for all destinations",
                agent.name,
            )

    @property
    def name(self) -> str:
        """The name of this plugin. Each has its own, because Strands refuses the same name twice."""
        return f"strands-token-telemetry-{id(self)}"

    if not TYPE_CHECKING:  # the base class has them for type checkers
        hooks = tools = ()

    def _on_after_invocation(self, event: AfterInvocationEvent) -> None:
        """Emit what the agent has spent since its previous event."""
        usage: dict[str, int | float] = {}
        try:
            agent, result = getattr(event, "agent", None), getattr(event, "result", None)
            # An event made by hand, in a unit test, may have no metrics but the result's.
            usage = take_unreported(getattr(agent, "event_loop_metrics", None), event) or take_unreported(
                getattr(result, "metrics", None), event
            )
            # A successful call counts as an invocation, even without tokens.
            if any(usage.values()) or (usage and result is not None):
                self._emit(usage, event, agent)
        except BaseException as error:
            log(logging.ERROR, "token usage may not have been emitted: %s", usage or error)
            if not isinstance(error, Exception):  # KeyboardInterrupt, SystemExit, CancelledError
                raise

    def _emit(self, usage: dict[str, int | float], event: AfterInvocationEvent, agent: object) -> None:
        """Build an event and hand it to the emitter, or to the log if the emitter fails."""
        fields = self._describe(event, agent)
        compose = functools.partial(emf.compose, usage, self.namespace, self.dimensions, fields, emf.now_ms())
        try:
            returned: object = self.emitter(compose())
            if returned is not None and isinstance(returned, Coroutine):  # `is not` saves 0.2 µs
                raise TypeError(
                    "emitter returned a coroutine, which nobody awaits; write one that is not async"
                )
        except Exception:
            # Composed anew, because the emitter may have changed the event.
            log(logging.ERROR, "emitter failed; this event was not delivered: %s", encode(compose()))

    def _describe(self, event: AfterInvocationEvent, agent: object) -> dict[str, Any]:
        """Return the properties and the values of the dimensions."""
        fields = emf.merge_without_none(
            self.extra_properties or {},
            self._resolve("property_resolver", event),
            self.dimension_values,
            self._resolve("dimension_resolver", event),
        )
        for names in self.dimensions:
            for name in names:
                if name not in fields:
                    fields[name] = _own_value(name, agent)
        return fields

    def _resolve(self, parameter: str, event: AfterInvocationEvent) -> dict[str, Any]:
        """Return what a resolver returns for this event; nothing if there is none, or if it fails."""
        resolver = getattr(self, parameter)
        if resolver is None:
            return {}
        try:
            return checks.check_mapping(f"what {parameter} returns", resolver(event), "{}")
        except Exception:
            log(logging.ERROR, "%s failed; the event goes out without its values", parameter)
            return {}


def _hooks_of(registry: HookRegistry) -> list[TokenUsageHook]:
    """Return the hooks that a registry has. It keeps the list itself, so that the hook keeps no state."""
    hooks: list[TokenUsageHook] = vars(registry).setdefault("_token_usage_hooks", [])
    return hooks


def _own_value(dimension: str, agent: Any) -> str:
    """Return the hook's own value for a dimension, or "unknown"."""
    value = None
    with contextlib.suppress(Exception):
        if dimension == "AgentName":
            value = agent.name
        elif dimension == "Model":
            config = agent.model.get_config()
            # SageMaker has an endpoint name where all other providers have a model ID.
            value = config.get("model_id") or config.get("endpoint_name")
    if isinstance(value, str):
        return value
    warn_once(
        "dimension %r has no value, so it is %r; give it one with dimension_values or dimension_resolver; "
        "the hook itself knows only 'Model' and 'AgentName'",
        dimension,
        emf.UNKNOWN,
    )
    return emf.UNKNOWN
