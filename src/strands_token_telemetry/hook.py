"""TokenUsageHook: after each invocation of a Strands agent, one event with the tokens it has spent."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from strands_token_telemetry import checks, emf
from strands_token_telemetry.emitters import begin_with_newline, default_emitter, encode
from strands_token_telemetry.usage import get, spent

if TYPE_CHECKING:
    from strands import Agent
    from strands.hooks import AfterInvocationEvent, HookRegistry
    from strands.plugins import Plugin
else:
    Plugin = object  # Strands looks at the attributes of a plugin, not at its class

__all__ = ["Emitter", "TokenUsageHook", "default_emitter"]

Emitter = Callable[[dict[str, Any]], None]

_NAMESPACE = "Strands/AgentTokenUsage"


class TokenUsageHook(Plugin):
    """Strands hook provider, and plugin, that emits an EMF event with the tokens of each invocation.

    `Agent(hooks=[TokenUsageHook()])` works with Strands 1.0 and later. `Agent(plugins=[TokenUsageHook()])`
    does the same with 1.28 and later.

    One hook may serve many agents in many threads. Give it to each agent; a graph or a swarm has no event
    of its own. The events of an agent always sum to its `event_loop_metrics.accumulated_usage`: each reports
    what was added since the previous one, so that the tokens of reused agents and of failed or resumed calls
    are counted once. With Strands 1.43 and later, the hook runs before all other after-invocation hooks, so
    its resolvers do not see what those change. Once created, the hook raises no `Exception` into the agent;
    it logs errors to the logger `strands_token_telemetry`.

    Args:
        namespace: CloudWatch namespace: 1 to 255 printable ASCII characters, not blank, not starting with
            `:` or `AWS/`.
        dimensions: Dimension sets, `[["Model"]]` by default. CloudWatch keeps (and bills) a metric for
            each set and each combination of its values. At least one set (`[[]]` for no dimensions), each
            of at most 30 names. A name has 1 to 250 printable ASCII characters.
        dimension_values: Fixed values, by dimension.
        dimension_resolver: Called with each `AfterInvocationEvent`. It returns values by dimension, which
            win over `dimension_values`. A dimension without a value uses the property of the same name,
            then the hook's own value (`Model`: the model id; `AgentName`: the agent's name), and otherwise
            `"unknown"`. `None` counts as missing. A value for any other name becomes a property.
        extra_properties: Further fields of each event. They are not metrics; Logs Insights finds them.
        property_resolver: Called with each `AfterInvocationEvent`. It returns further properties, which
            win over `extra_properties`: a session id, for example.
        emitter: Called with each event, in the thread of the agent. The event is a dict of plain JSON
            data, which the emitter may change. If the emitter raises, the hook logs the event.
            `default_emitter` prints it as one line on stdout.

    `None` means the default. The hook has shallow copies, as attributes with the parameters' names.

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
        """Register one callback, for `AfterInvocationEvent`. Strands calls this for `hooks=[...]`.

        Args:
            registry: The agent's hook registry. Registering a second time changes nothing, so that a hook
                listed twice emits one event for each invocation.
            **kwargs: Ignored. Strands may add some.
        """
        from strands.hooks import AfterInvocationEvent

        registered = getattr(registry, "__dict__", {}).setdefault("_token_usage_hooks", [])
        if any(hook is self for hook in registered):
            return
        registered.append(self)
        try:
            # Before all others: if another callback raises, Strands does not call the remaining ones.
            registry.add_callback(AfterInvocationEvent, self._on_after_invocation, order=-math.inf)
        except TypeError:  # Strands before 1.43 has no `order`
            registry.add_callback(AfterInvocationEvent, self._on_after_invocation)

    def init_agent(self, agent: Agent) -> None:
        """Add the hook to an agent. Strands calls this for `plugins=[...]`."""
        agent.hooks.add_hook(self)

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
            agent, result = get(event, "agent"), get(event, "result")
            # An event made by hand, in a unit test, may have no metrics but the result's.
            usage = spent(get(agent, "event_loop_metrics"), event) or spent(get(result, "metrics"), event)
            if any(usage.values()) or (usage and result is not None):
                self._emit(usage, event, agent)
        except BaseException as error:
            _log(logging.ERROR, "token usage may not have been emitted: %s", usage or error)
            if not isinstance(error, Exception):  # KeyboardInterrupt, SystemExit, CancelledError
                raise

    def _emit(self, usage: dict[str, int | float], event: AfterInvocationEvent, agent: object) -> None:
        """Build an event and hand it to the emitter, or to the log if the emitter fails."""
        fields = self._describe(event, agent)
        arguments = usage, self.namespace, self.dimensions, fields, emf.now_ms()
        if _streams_text(event, agent):
            begin_with_newline()
        try:
            returned: object = self.emitter(emf.compose(*arguments))
            if returned is not None and isinstance(returned, Coroutine):
                raise TypeError(
                    "emitter returned a coroutine, which nobody awaits; write one that is not async"
                )
        except Exception:
            # Composed anew, because the emitter may have changed the event.
            payload = encode(emf.compose(*arguments))
            _log(logging.ERROR, "emitter failed; this event was not delivered: %s", payload)

    def _describe(self, event: AfterInvocationEvent, agent: object) -> dict[str, Any]:
        """Return the properties and the values of the dimensions."""
        fields = {**(self.extra_properties or {})}
        if self.property_resolver is not None:
            fields.update(_resolve("property_resolver", self.property_resolver, event))
        emf.add_values(fields, self.dimension_values)
        if self.dimension_resolver is not None:
            emf.add_values(fields, _resolve("dimension_resolver", self.dimension_resolver, event))
        for names in self.dimensions:
            for name in names:
                if fields.get(name) is None:
                    fields[name] = _own_value(name, agent)
        return fields


def _resolve(
    parameter: str, resolver: Callable[[AfterInvocationEvent], Mapping[str, Any]], event: AfterInvocationEvent
) -> dict[str, Any]:
    """Return what a resolver returns for this event, or an empty dict if it fails."""
    try:
        return checks.check_mapping(f"what {parameter} returns", resolver(event), "{}")
    except Exception:
        _log(logging.ERROR, "%s failed; the event goes out without its values", parameter)
        return {}


def _own_value(dimension: str, agent: object) -> str:
    """Return the hook's own value for a dimension, or "unknown"."""
    value = None
    if dimension == "AgentName":
        value = get(agent, "name")
    elif dimension == "Model":
        with contextlib.suppress(Exception):
            config = get(agent, "model").get_config()
            # SageMaker has an endpoint name where all other providers have a model id.
            value = config.get("model_id") or config.get("endpoint_name")
    if isinstance(value, str):
        return value
    _warn_once(dimension)
    return emf.UNKNOWN


@functools.cache
def _warn_once(dimension: str) -> None:
    _log(
        logging.WARNING,
        "dimension %r has no value, so it is %r; give it one with dimension_values or dimension_resolver "
        "(the hook itself knows only 'Model' and 'AgentName'; this warning is logged once)",
        dimension,
        emf.UNKNOWN,
    )


def _streams_text(event: AfterInvocationEvent, agent: object) -> bool:
    """Tell whether a callback handler may have left text without a newline on stdout."""
    handler = get(agent, "callback_handler")
    state = get(event, "invocation_state")
    if type(state) is dict and "callback_handler" in state:  # agent("...", callback_handler=...)
        handler = state["callback_handler"]
    return handler is not None and get(handler, "__name__") != "null_callback_handler"


def _log(level: int, message: str, *args: object) -> None:
    """Log, with the traceback of an error; a log handler that raises does not reach the agent."""
    with contextlib.suppress(Exception):
        # Looked up here, because logging.config disables the loggers that exist when it runs.
        logger = logging.getLogger("strands_token_telemetry")
        logger.log(level, message, *args, exc_info=level == logging.ERROR)
