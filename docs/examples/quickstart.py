"""A Strands agent with an offline model, the metric line it prints, and what CloudWatch makes of it.

Runs without credentials and without a network: the model below only pretends. With a real one,
`Agent(hooks=[TokenUsageHook()])` is all there is to do.
"""

from strands import Agent
from strands.models import Model

from strands_token_telemetry import TokenUsageHook, default_emitter


class OfflineModel(Model):
    """Streams one reply, and reports what it used, as a provider does."""

    def get_config(self):
        return {"model_id": "offline-model-1"}

    def update_config(self, **config):
        raise NotImplementedError

    def structured_output(self, *args, **kwargs):
        raise NotImplementedError

    async def stream(self, *args, **kwargs):
        yield {"messageStart": {"role": "assistant"}}
        yield {"contentBlockStart": {"start": {}}}
        for text in ("Tokens ", "are ", "counted."):
            yield {"contentBlockDelta": {"delta": {"text": text}}}
        yield {"contentBlockStop": {}}
        yield {"messageStop": {"stopReason": "end_turn"}}
        usage = {"inputTokens": 12, "outputTokens": 5, "totalTokens": 17}
        yield {"metadata": {"usage": usage, "metrics": {"latencyMs": 1}}}


events = []


def print_and_keep(event):
    """Print the line, as the hook does by default, and keep the event for the table."""
    default_emitter(event)
    events.append(event)


agent = Agent(model=OfflineModel(), hooks=[TokenUsageHook(emitter=print_and_keep)])
agent("What happens to tokens?")

print("\nFrom this line CloudWatch extracts:\n")
row = "{:<26}{:<26}{:<16}{:>5}".format
print(row("namespace", "dimensions", "metric", "value"))
for event in events:
    for directive in event["_aws"]["CloudWatchMetrics"]:
        for keys in directive["Dimensions"]:
            dimensions = ", ".join(f"{key}={event[key]}" for key in keys)
            for metric in directive["Metrics"]:
                name = metric["Name"]
                print(row(directive["Namespace"], dimensions, name, event[name]))
