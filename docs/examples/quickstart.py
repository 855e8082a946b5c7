"""A Strands agent with an offline model, the metric line of its call, and what CloudWatch reads from it.

Needs no credentials and no network: the model below only pretends to be one. With a real model you
write `Agent(hooks=[TokenUsageHook()])` and nothing else.
"""

from strands import Agent
from strands.models import Model

from strands_token_telemetry import TokenUsageHook, default_emitter


class OfflineModel(Model):
    """Streams one answer and reports the tokens that it used, as a provider does."""

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


def show_and_keep(event):
    """Print the line under a label, and keep the event for the table."""
    print("\n\nThe hook prints one line for this call:")
    default_emitter(event)  # what the hook uses if you give it no emitter
    events.append(event)


print("The agent answers:\n")
agent = Agent(model=OfflineModel(), hooks=[TokenUsageHook(emitter=show_and_keep)])
agent("What happens to tokens?")

print("\nCloudWatch reads these metrics from the line:\n")
row = "{:<26}{:<26}{:<16}{:>5}".format
print(row("namespace", "dimensions", "metric", "value"))
for event in events:
    for directive in event["_aws"]["CloudWatchMetrics"]:
        for keys in directive["Dimensions"]:
            dimensions = ", ".join(f"{key}={event[key]}" for key in keys)
            for metric in directive["Metrics"]:
                name = metric["Name"]
                print(row(directive["Namespace"], dimensions, name, event[name]))

print(
    "\nNext: give your own agent the hook, Agent(hooks=[TokenUsageHook()]), and see how the line\n"
    "gets from your host to CloudWatch:\n"
    "https://github.com/flockcover/strands-token-telemetry/blob/main/docs/cloudwatch.md"
)
