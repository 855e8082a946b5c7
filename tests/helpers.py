"""What several test files need: a real Agent with a scripted model, and checked events."""

import asyncio
import enum
import inspect
import json
import marshal
import os
import subprocess
import sys
import textwrap
from collections import Counter
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import pytest
import strands.types.exceptions
from strands import Agent, tool
from strands.models import Model

from emf_checker import extract, parse

STRANDS = tuple(int(part) for part in version("strands-agents").split(".")[:2])


def since(release: str, what: str):
    """Skip the test on Strands releases that lack what it tests."""
    parts = tuple(map(int, release.split(".")))
    return pytest.mark.skipif(parts > STRANDS, reason=f"{what} came with Strands {release}")


@dataclass
class Turn:
    """One reply of the model: text, or the use of tools, then its usage; or an error, or no end."""

    text: str = ""
    tools: list[tuple[str, dict]] = field(default_factory=list)
    usage: dict[str, int] = field(default_factory=dict)
    error: BaseException | None = None
    hangs: bool = False


def says(text="Hello.", tokens=(10, 5), **cache):
    sent, received = tokens
    usage = {"inputTokens": sent, "outputTokens": received, "totalTokens": sent + received}
    return Turn(text, usage=usage | cache)


def uses(*tools, tokens=(20, 3)):
    return Turn(tools=[(name, {}) for name in tools], usage=says(tokens=tokens).usage)


def uses_with(tool, tokens=(20, 3), **arguments):
    return Turn(tools=[(tool, arguments)], usage=says(tokens=tokens).usage)


def fails():
    return Turn(text="I was about to", error=RuntimeError("the provider is down"))


def hangs():
    return Turn(text="I am thinking", hangs=True)


class ScriptedModel(Model):
    """Follows its turns, then repeats the last one. `reported` sums the usage that it has reported."""

    def __init__(self, *turns, model_id="scripted-1"):
        self.turns = list(turns) or [says()]
        self.config = {"model_id": model_id}
        self.reported = Counter()
        self.hanging = asyncio.Event()
        self._calls = 0

    def restart(self):
        self._calls = 0

    def update_config(self, **config):
        self.config.update(config)

    def get_config(self):
        return self.config

    async def structured_output(self, output_model, prompt, system_prompt=None, **kwargs):
        yield {"output": output_model.model_construct()}

    async def stream(self, messages, tool_specs=None, system_prompt=None, **kwargs):
        turn = self.turns[min(self._calls, len(self.turns) - 1)]
        self._calls += 1
        await asyncio.sleep(0)  # lets other calls run, as a real provider does
        yield {"messageStart": {"role": "assistant"}}
        blocks = [({}, {"text": turn.text})] if turn.text else []
        for number, (name, arguments) in enumerate(turn.tools):
            tool_use = {"name": name, "toolUseId": f"{name}-{self._calls}-{number}"}
            blocks.append(({"toolUse": tool_use}, {"toolUse": {"input": json.dumps(arguments)}}))
        for start_of_block, delta in blocks:
            yield {"contentBlockStart": {"start": start_of_block}}
            yield {"contentBlockDelta": {"delta": delta}}
            yield {"contentBlockStop": {}}
        if turn.hangs:
            self.hanging.set()
            await asyncio.Event().wait()
        if turn.error:
            raise turn.error
        await asyncio.sleep(0)
        yield {"messageStop": {"stopReason": "tool_use" if turn.tools else "end_turn"}}
        self.reported.update(turn.usage)
        yield {"metadata": {"usage": dict(turn.usage), "metrics": {"latencyMs": 1}}}


def make_agent(*turns, hooks=(), model_id="scripted-1", callback_handler=None, **kwargs):
    """Return a real Agent on a scripted model; silent, unless a callback handler is given."""
    model = ScriptedModel(*turns, model_id=model_id)
    kwargs.setdefault("tools", [look_up])
    return Agent(model=model, hooks=list(hooks), callback_handler=callback_handler, **kwargs)


@tool
def look_up() -> str:
    """Look something up."""
    return "found"


def call(agent):
    """Call an agent, and ignore the error of `fails()`."""
    try:
        agent("hello")
    except Exception as error:
        if "the provider is down" not in f"{error} {error.__cause__}":
            raise


def reentrant():
    """Return the arguments that let one agent be called concurrently: in the first releases, none."""
    parameter = inspect.signature(Agent).parameters.get("concurrent_invocation_mode")
    if parameter is not None:
        return {"concurrent_invocation_mode": type(parameter.default).UNSAFE_REENTRANT}
    if hasattr(strands.types.exceptions, "ConcurrencyException"):
        pytest.skip("this Strands refuses concurrent calls of an agent")
    return {}


def start(script, *options, stdin=None, stderr=None, **environment):
    """Start a script in a new Python. Its stdout is a pipe, and buffered unless an option says otherwise."""
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    env = {**os.environ, "PYTHONUNBUFFERED": "", "PYTHONPATH": path, **environment}
    command = [sys.executable, *options, "-c", textwrap.dedent(script)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stdin=stdin, stderr=stderr, env=env)


# What a hook emits.


class Events(list):
    """An emitter that keeps each event, after the EMF checker has accepted its line.

    Any encoder can write an event, so this one uses the plain `json.dumps`.
    """

    def __call__(self, payload):
        marshal.dumps(payload)  # refuses subclasses of built-in types, such as a str Enum
        event = checked(json.dumps(payload, allow_nan=False))
        assert event == payload  # a tuple, or a key that is not a string, would have changed
        self.append(event)

    def total(self, **members):
        """Return the sum of the metrics over the events that have these members."""
        total = Counter()
        for event in self:
            if members.items() <= event.items():
                total.update(counters(event))
        return without_zeros(total)

    @property
    def inputs(self):
        return [event["inputTokens"] for event in self]


def without_zeros(counters):
    return Counter({name: count for name, count in counters.items() if count})


def checked(line):
    """Return the event on a line that breaks no rule."""
    extract(line)
    return parse(line)


def events_in(lines):
    """Return the events among the lines. Each is alone on its line, and breaks no rule."""
    return [checked(line) for line in lines if '"_aws"' in line]


def counters(event):
    """Return the metrics of an event, by name."""
    (directive,) = event["_aws"]["CloudWatchMetrics"]
    return {metric["Name"]: event[metric["Name"]] for metric in directive["Metrics"]}


Colour = enum.Enum("Colour", {"RED": "red"})
Stage = enum.Enum("Stage", {"PROD": "prod"}, type=str)
