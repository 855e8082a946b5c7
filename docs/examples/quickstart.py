"""Call a Strands agent, print the line of its invocation, and show which metrics CloudWatch reads from it.

It needs neither credentials nor a network, because the model below is only a stand-in. With a real model
you write `Agent(hooks=[TokenUsageHook()])`.
"""

from strands import Agent
from strands.models import Model
from strands_token_telemetry import TokenUsageHook, default_emitter


class OfflineModel(Model):
    """Streams one answer and reports the tokens it used, as a provider does."""

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


def print_and_explain(event):
    """Print the line as the hook does, then what CloudWatch makes of it."""
    print("\n\nThe hook prints this line:")
    default_emitter(event)  # the hook does only this if you give it no emitter
    print("\nCloudWatch reads these metrics from it:\n")
    row = "{:<25} {:<22} {:<13} {:>5}".format
    print(row("namespace", "dimension", "metric", "value"))
    (directive,) = event["_aws"]["CloudWatchMetrics"]
    for metric in directive["Metrics"]:
        name = metric["Name"]
        print(row(directive["Namespace"], f"Model={event['Model']}", name, event[name]))


print("The agent answers:\n")
agent = Agent(model=OfflineModel(), hooks=[TokenUsageHook(emitter=print_and_explain)])
agent("What happens to tokens?")
