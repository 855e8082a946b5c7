"""TokenUsageHook: after each invocation of an agent, one event with what it has spent."""

from __future__ import annotations

import contextlib
import logging
import time
import types
import weakref
from typing import TYPE_CHECKING, Any, TypeVar

from strands_token_telemetry import emf
from strands_token_telemetry.emitters import default_emitter, encode, text_on_stdout
from strands_token_telemetry.usage import UsageMemory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from strands.hooks import AfterInvocationEvent, HookRegistry

__all__ = ["TokenUsageHook", "default_emitter"]

# No NullHandler: where logging is not configured, what is logged here belongs on stderr, for it may
# hold the only copy of a count.
_logger = logging.getLogger("strands_token_telemetry")

_NAMESPACE = "Strands/AgentTokenUsage"

_Function = TypeVar("_Function", bound="Callable[..., Any] | None")


class TokenUsageHook:
    """Strands hook provider that emits an EMF event with the tokens of each invocation.

    One hook may serve many agents in many threads. The events for an agent always sum to its
    `event_loop_metrics.accumulated_usage`: each carries what was added since the one before, so that
    a reused agent, a failed call or a resumed one is counted once. After construction nothing raises
    into the agent; what goes wrong is logged by the logger `strands_token_telemetry`.

    Args:
        namespace: CloudWatch namespace: 1 to 255 printable ASCII characters, not starting with `:`
            or `AWS/`.
        dimensions: Dimension sets, `[["Model"]]` by default. CloudWatch keeps (and bills) a metric
            for each set and each combination of its values. At least one set (`[[]]` for none), each
            of at most 30 names of 1 to 250 printable ASCII characters.
        dimension_values: Fixed values, by dimension.
        dimension_resolver: Called with each `AfterInvocationEvent`; returns values by dimension, which
            win over `dimension_values`. A dimension with neither takes a property of its name, then
            what the hook knows itself (`Model` is the model id, `AgentName` the agent's name), then
            `"unknown"`. `None` counts as missing. Names in no dimension set become properties.
        extra_properties: Further members of each event, no metrics, which Logs Insights finds.
        property_resolver: Called with each `AfterInvocationEvent`; returns further properties, which
            win over `extra_properties`: a session id, for example.
        emitter: Called with each event, a dict of its own, in the thread of the agent; what it raises
            is logged together with the event. `default_emitter` prints a line on stdout.

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
        self._memory = UsageMemory()
        self._registries: weakref.WeakSet[HookRegistry] = weakref.WeakSet()
        self._said_unknown: set[str] = set()

    def register_hooks(self, registry: HookRegistry, **kwargs: Any) -> None:
        """Register one callback, for `AfterInvocationEvent`; Strands calls this.

        Args:
            registry: The agent's hook registry. Registering with it a second time changes nothing,
                so that a hook listed twice emits one event for an invocation.
            **kwargs: Ignored; for what Strands may add.
        """
        from strands.hooks import AfterInvocationEvent

        with contextlib.suppress(TypeError):  # a test double that can't be weakly referenced
            if registry in self._registries:
                return
            self._registries.add(registry)
        registry.add_callback(AfterInvocationEvent, self._on_after_invocation)

    def _on_after_invocation(self, event: AfterInvocationEvent) -> None:
        usage: dict[str, int] = {}
        try:
            agent = _get(event, "agent")
            usage = self._spent(event, agent)
            if usage:
                self._emit(usage, event, agent)
        except BaseException as error:
            _log(logging.ERROR, "token usage was not emitted: %s", usage)
            if not isinstance(error, Exception):  # KeyboardInterrupt, SystemExit, CancelledError
                raise

    def _spent(self, event: AfterInvocationEvent, agent: object) -> dict[str, int]:
        """Return the counters to emit: none where there is no result and nothing was spent."""
        of_agent = _get(agent, "event_loop_metrics")
        result = _get(event, "result")  # Strands < 1.20 has none, nor has a failed call
        if result is not None:
            metrics = _get(result, "metrics")
            # Another hook may have replaced the agent's metrics already. A mock is of a type of its own.
            usage = self._memory.spent(metrics, remember=type(metrics) is type(of_agent))
            if usage:
                return usage
        usage = self._memory.spent(of_agent)
        return usage if result is not None or any(usage.values()) else {}

    def _emit(self, usage: dict[str, int], event: AfterInvocationEvent, agent: object) -> None:
        dimension_values, properties = self.dimension_values.copy(), self.extra_properties or {}
        if self.dimension_resolver is not None:
            resolved = _resolve("dimension_resolver", self.dimension_resolver, event)
            dimension_values.update({name: value for name, value in resolved.items() if value is not None})
        if self.property_resolver is not None:
            properties = properties | _resolve("property_resolver", self.property_resolver, event)
        for keys in self.dimensions:
            for key in keys:
                if dimension_values.get(key) is None and properties.get(key) is None:
                    dimension_values[key] = self._find(key, agent)
        timestamp_ms = time.time_ns() // 1_000_000
        description = (usage, self.namespace, self.dimensions, dimension_values, properties, timestamp_ms)
        token = text_on_stdout.set(_streams_text(event, agent))
        try:
            returned: object = self.emitter(emf.compose(*description))
            if isinstance(returned, types.CoroutineType):
                returned.close()
                raise TypeError(
                    "emitter returned a coroutine, which nobody awaits; schedule it in the emitter"
                )
        except Exception:
            # Composed anew: the emitter may have changed the one it was given.
            event_as_json = encode(emf.compose(*description))
            _log(logging.ERROR, "emitter failed; this event was not delivered: %s", event_as_json)
        finally:
            text_on_stdout.reset(token)

    def _find(self, dimension: str, agent: object) -> str | None:
        """Return the value of a dimension that the agent itself gives, if it does."""
        value = None
        if dimension == "AgentName":
            value = _get(agent, "name")
        elif dimension == "Model":
            value = _model_id(_get(agent, "model"))
        if isinstance(value, str):
            return value
        if dimension not in self._said_unknown:
            self._said_unknown.add(dimension)
            _log(
                logging.WARNING,
                "dimension %r has no value and goes out as %r; give it one with dimension_values or "
                "dimension_resolver (said once)",
                dimension,
                emf.UNKNOWN,
            )
        return None


def _resolve(
    parameter: str, resolver: Callable[[AfterInvocationEvent], Mapping[str, Any]], event: AfterInvocationEvent
) -> dict[str, Any]:
    """Return what a resolver gives for this event, or an empty dict if it fails."""
    try:
        resolved = resolver(event)
        if isinstance(resolved, types.CoroutineType):
            resolved.close()
        return emf.check_mapping(f"what {parameter} returns", resolved)
    except Exception:
        _log(logging.ERROR, "%s failed; the event goes out without its values", parameter)
        return {}


def _get(owner: object, name: str) -> Any:
    """Return an attribute, or None where there is none or its property raises."""
    try:
        return getattr(owner, name)
    except Exception:
        return None


def _model_id(model: Any) -> object:
    try:
        config = model.get_config()
        # SageMaker is configured by an endpoint, all other providers of Strands by a model id.
        return config.get("model_id") or config.get("endpoint_name")
    except Exception:
        return None


def _streams_text(event: AfterInvocationEvent, agent: object) -> bool:
    """Say whether a callback handler may have left text without a newline on stdout."""
    handler = _get(agent, "callback_handler")
    state = _get(event, "invocation_state")
    if type(state) is dict and "callback_handler" in state:  # agent("...", callback_handler=...)
        handler = state["callback_handler"]
    return handler is not None and _get(handler, "__name__") != "null_callback_handler"


def _check_callable(parameter: str, function: _Function) -> _Function:
    """Return `function` if it can be called, and does its work when it is called."""
    import inspect  # here, for importing it costs as much as the rest of the package

    if function is None:
        return function
    if not callable(function):
        raise TypeError(
            f"{parameter} must be callable, got {emf.shown(function)}; write a function or a lambda"
        )
    for called in (function, type(function).__call__):
        for kind in (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction):
            if kind(called):
                raise TypeError(
                    f"{parameter} must be a plain function, got {emf.shown(function)}, which nobody would "
                    "await or iterate; write a def that does its work, or hands it to a queue or a task"
                )
    return function


def _log(level: int, message: str, *args: object) -> None:
    """Log, with the traceback if there is one; a logging handler that raises is not let into the agent."""
    with contextlib.suppress(Exception):
        _logger.log(level, message, *args, exc_info=level == logging.ERROR)
