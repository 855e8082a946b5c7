"""TokenUsageHook: after each invocation of a Strands agent, one event with what it has spent."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import sys
import time
import types
from typing import TYPE_CHECKING, Any, TypeVar

from strands_token_telemetry import emf
from strands_token_telemetry.emitters import default_emitter, encode, expect_text
from strands_token_telemetry.usage import attributes, get, spent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from strands.hooks import AfterInvocationEvent, HookRegistry

__all__ = ["TokenUsageHook", "default_emitter"]

_NAMESPACE = "Strands/AgentTokenUsage"

_Function = TypeVar("_Function", bound="Callable[..., Any] | None")


class TokenUsageHook:
    """Strands hook provider that emits an EMF event with the tokens of each invocation.

    One hook may serve many agents in many threads. The events for an agent always sum to its
    `event_loop_metrics.accumulated_usage`: each carries what was added since the one before, so that
    a reused agent, a failed call or a resumed one is counted once. On Strands 1.43 and later the hook
    runs before all other after-invocation hooks, so resolvers do not see what those write. After
    construction it raises no `Exception` into the agent; the logger `strands_token_telemetry` logs it.

    Args:
        namespace: CloudWatch namespace: 1 to 255 letters, digits, spaces and `. - _ / # :`. It does
            not start with `:` or `AWS/`.
        dimensions: Dimension sets, `[["Model"]]` by default. CloudWatch keeps (and bills) a metric
            for each set and each combination of its values. At least one set (`[[]]` for none), each
            of at most 30 names, and at most 100 names in all sets together. A name has 1 to 250
            printable ASCII characters.
        dimension_values: Fixed values, by dimension.
        dimension_resolver: Called with each `AfterInvocationEvent`. It returns values by dimension,
            which win over `dimension_values`. A dimension with neither takes a property of its name,
            then what the hook knows itself (`Model` is the model id, `AgentName` the agent's name),
            then `"unknown"`. `None` counts as missing. Names in no dimension set become properties.
        extra_properties: Further fields of each event. They are no metrics; Logs Insights finds them.
        property_resolver: Called with each `AfterInvocationEvent`. It returns further properties,
            which win over `extra_properties`: a session id, for example.
        emitter: Called with each event in the thread of the agent. The event is a dict of plain JSON
            data, and the emitter's own. What the emitter raises is logged together with the event.
            `default_emitter` prints a line on stdout.

    `None` means the default. The hook keeps copies, under the parameters' names.

    Raises:
        TypeError: An argument has the wrong type, or is a coroutine function, which nobody would
            await. The message names the parameter and says what to write.
        ValueError: CloudWatch would refuse an event with this argument.

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
        emitter: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self.namespace = _NAMESPACE if namespace is None else emf.check_namespace(namespace)
        self.dimensions = [["Model"]] if dimensions is None else emf.check_dimensions(dimensions)
        self.dimension_values = (
            {} if dimension_values is None else emf.check_properties("dimension_values", dimension_values)
        )
        self.dimension_resolver = _check_callable("dimension_resolver", dimension_resolver)
        self.extra_properties = (
            None if extra_properties is None else emf.check_properties("extra_properties", extra_properties)
        )
        self.property_resolver = _check_callable("property_resolver", property_resolver)
        self.emitter = _check_callable("emitter", default_emitter if emitter is None else emitter)

    def register_hooks(self, registry: HookRegistry, **kwargs: Any) -> None:
        """Register one callback, for `AfterInvocationEvent`; Strands calls this.

        Args:
            registry: The agent's hook registry. Registering with it a second time changes nothing,
                so that a hook listed twice emits one event for an invocation.
            **kwargs: Ignored; for what Strands may add.
        """
        from strands.hooks import AfterInvocationEvent

        hooks = attributes(registry).setdefault("_token_usage_hooks", [])
        if any(hook is self for hook in hooks):
            return
        try:
            # First in line: another callback may raise, or be cancelled while it waits, and Strands then
            # calls no further one.
            registry.add_callback(AfterInvocationEvent, self._on_after_invocation, order=-math.inf)
        except TypeError:  # before Strands 1.43 there is no order
            registry.add_callback(AfterInvocationEvent, self._on_after_invocation)
        hooks.append(self)

    def _on_after_invocation(self, event: AfterInvocationEvent) -> None:
        usage: dict[str, int | float] = {}
        try:
            agent = get(event, "agent")
            usage = spent(get(agent, "event_loop_metrics"), event)
            if not any(usage.values()):
                result = get(event, "result")
                # Before Strands 1.43, which brought HookOrder, another hook may have replaced the agent's
                # metrics, and an event made by hand may have none. The result still has those of the call.
                if not usage or not hasattr(sys.modules.get("strands.hooks"), "HookOrder"):
                    usage = spent(get(result, "metrics"), event) or usage
                if result is None and not any(usage.values()):
                    return
            if usage:
                self._emit(usage, event, agent)
        except BaseException as error:
            _log(logging.ERROR, "token usage may not have been emitted: %s", usage)
            if not isinstance(error, Exception):  # KeyboardInterrupt, SystemExit, CancelledError
                raise

    def _emit(self, usage: dict[str, int | float], event: AfterInvocationEvent, agent: object) -> None:
        values, properties = self.dimension_values, self.extra_properties or {}
        if self.dimension_resolver is not None:
            resolved = _resolve("dimension_resolver", self.dimension_resolver, event)
            values = values | {name: value for name, value in resolved.items() if value is not None}
        if self.property_resolver is not None:
            properties = properties | _resolve("property_resolver", self.property_resolver, event)
        for keys in self.dimensions:
            for key in keys:
                if values.get(key) is None and properties.get(key) is None:
                    values = {**values, key: _find(key, agent)}
        now = time.time_ns() // 1_000_000
        compose = functools.partial(
            emf.compose, usage, self.namespace, self.dimensions, values, properties, now
        )
        if _streams_text(event, agent):
            expect_text()
        try:
            returned: object = self.emitter(compose())
            if isinstance(returned, types.CoroutineType):
                raise TypeError(
                    "emitter returned a coroutine, which nobody awaits; schedule it in the emitter"
                )
        except Exception:
            # Composed anew: the emitter may have changed the one it was given.
            event_as_json = encode(compose())
            _log(logging.ERROR, "emitter failed; this event was not delivered: %s", event_as_json)


def _resolve(
    parameter: str, resolver: Callable[[AfterInvocationEvent], Mapping[str, Any]], event: AfterInvocationEvent
) -> dict[str, Any]:
    """Return what a resolver gives for this event, or an empty dict if it fails."""
    try:
        return emf.check_mapping(f"what {parameter} returns", resolver(event))
    except Exception:
        _log(logging.ERROR, "%s failed; the event goes out without its values", parameter)
        return {}


def _find(dimension: str, agent: object) -> str | None:
    """Return the value of a dimension that the agent itself gives, if it does."""
    value = None
    if dimension == "AgentName":
        value = get(agent, "name")
    elif dimension == "Model":
        with contextlib.suppress(Exception):
            config = get(agent, "model").get_config()
            # SageMaker is configured by an endpoint, all other providers of Strands by a model id.
            value = config.get("model_id") or config.get("endpoint_name")
    if isinstance(value, str):
        return value
    _say_unknown(dimension)
    return None


@functools.cache
def _say_unknown(dimension: str) -> None:
    _log(
        logging.WARNING,
        "dimension %r has no value and goes out as %r; give it one with dimension_values or "
        "dimension_resolver (said once)",
        dimension,
        emf.UNKNOWN,
    )


def _streams_text(event: AfterInvocationEvent, agent: object) -> bool:
    """Say whether a callback handler may have left text without a newline on stdout."""
    handler = get(agent, "callback_handler")
    state = get(event, "invocation_state")
    if type(state) is dict and "callback_handler" in state:  # agent("...", callback_handler=...)
        handler = state["callback_handler"]
    return handler is not None and get(handler, "__name__") != "null_callback_handler"


def _check_callable(parameter: str, function: _Function) -> _Function:
    """Return `function` if it can be called, and does its work when it is called."""
    import inspect  # here, for importing it costs as much as the rest of the package

    kinds = inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction
    called = function, type(function).__call__
    if function is not None and (
        not callable(function) or any(is_kind(f) for f in called for is_kind in kinds)
    ):
        raise TypeError(
            f"{parameter} must be a function, not async and no generator, got {emf.shown(function)}; "
            "write a def that does the work, or hands it to a queue or a task"
        )
    return function


def _log(level: int, message: str, *args: object) -> None:
    """Log, with the traceback if there is one; a logging handler that raises is not let into the agent."""
    with contextlib.suppress(Exception):
        logger = logging.getLogger("strands_token_telemetry")
        logger.disabled = False  # logging.config disables the loggers that it finds; this one may hold counts
        logger.log(level, message, *args, exc_info=level == logging.ERROR)
