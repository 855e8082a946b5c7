"""Agents on the real clients of the providers: each event has what the service said of that call."""

import gc
import importlib
import os
import re
import socket

import boto3  # comes with Strands
import pytest
from strands import Agent

import provider_servers as service
from helpers import counters, since
from strands_token_telemetry import TokenUsageHook
from template import PRICES, spend

pytest.importorskip("pytest_httpserver", reason="needs .ci/run providers")

# What two of the clients do to their own libraries; every other warning is an error here as well.
pytestmark = pytest.mark.filterwarnings(
    # LiteLLM declares types that pydantic can't honour, and asks instances for what classes have.
    r"ignore:Item '\w+' on TypedDict class '\w+' is using the `ReadOnly` qualifier:UserWarning:pydantic",
    r"ignore:Accessing the 'model_(computed_)?fields' attribute on the instance:DeprecationWarning",
    # google-genai derives from a class of aiohttp's that is not meant for it.
    r"ignore:Inheritance class AiohttpClientSession:DeprecationWarning:google\.genai",
)


@pytest.fixture(autouse=True)
def no_other_machine(monkeypatch):
    """Fail if a client wants to leave 127.0.0.1, even if it goes on after the refusal."""

    def guard(owner, name, host_of):
        def guarded(*args, **kwargs):
            if host_of(*args) == "127.0.0.1":
                return function(*args, **kwargs)
            refused.append(args)
            raise OSError(f"not on this machine: {args}")

        function = getattr(owner, name)
        monkeypatch.setattr(owner, name, guarded)

    refused = []
    guard(socket, "getaddrinfo", lambda host, *_: host)
    guard(socket.socket, "connect", lambda _, address: address[0])
    guard(socket.socket, "connect_ex", lambda _, address: address[0])
    yield
    gc.collect()  # what a client leaves open is reported here, not in some other test
    assert refused == []


@pytest.fixture(autouse=True)
def no_settings_of_the_developer(monkeypatch):
    settings = ("AWS_", "OPENAI_", "ANTHROPIC_", "OLLAMA_", "LITELLM_", "GOOGLE_", "GEMINI_")
    for name in os.environ:
        if name.startswith(settings) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else fetched at import
    monkeypatch.setenv("LITELLM_MODE", "PRODUCTION")  # else a .env file is read


def arguments_of(provider, url):
    """Return what lets a model of Strands call a service at this URL."""
    return {
        "openai": {"client_args": {"api_key": "none", "base_url": f"{url}/v1"}},
        "litellm": {"client_args": {"api_key": "none", "api_base": f"{url}/v1"}},
        "anthropic": {"client_args": {"api_key": "none", "base_url": url}, "max_tokens": 100},
        "gemini": {"client_args": {"api_key": "none", "http_options": {"base_url": url}}},
        "ollama": {"host": url},
        "bedrock": {
            "endpoint_url": url,
            "boto_session": boto3.Session("none", "none", region_name="us-east-1"),
        },
    }[provider]


def model_at(url, name, model_id):
    """Return a model of this class of Strands; skip the test where the client that it needs is missing."""
    provider = name.removesuffix("Model").lower()
    client = {"gemini": "google.genai", "bedrock": "boto3"}.get(provider, provider)
    pytest.importorskip(client, reason=f"no {client}: needs .ci/run providers")
    model = getattr(importlib.import_module(f"strands.models.{provider}"), name)
    return model(**arguments_of(provider, url), model_id=model_id)


def tokens(*counts, read=None, write=None):
    names = ("inputTokens", "outputTokens", "totalTokens", "cacheReadInputTokens", "cacheWriteInputTokens")
    found = zip(names, (*counts, read, write), strict=True)
    return {name: count for name, count in found if count is not None}


# What the service says of two calls, what Strands makes of it, and what the bill has: input outside a cache,
# output, read from a cache, written to it. The mapping is Strands' own, and changed: see docs/limits.md.
@pytest.mark.parametrize(
    ("model", "model_id", "speak", "said", "expected", "billed"),
    [
        pytest.param(
            "OpenAIModel",
            "gpt-4o-mini",
            service.chat_completions,
            service.OPENAI[::-1],
            # Of OpenAI's input, the cached tokens are a part. A counter seen once stays, at 0.
            [tokens(1200, 7, 1207, read=1024, write=128), tokens(30, 11, 41, read=0, write=0)],
            (78, 18, 1024, 128),
            marks=since("1.57", "the counting of OpenAI's cache writes"),
        ),
        pytest.param(
            "LiteLLMModel",
            "openai/gpt-4o-mini",
            service.chat_completions,
            service.OPENAI,
            [tokens(30, 11, 41), tokens(1200, 7, 1207, read=1024, write=128)],
            (78, 18, 1024, 128),
            marks=since("1.59", "the counting of OpenAI's cache writes through LiteLLM"),
        ),
        pytest.param(
            "AnthropicModel",
            "claude-sonnet-4-5",
            service.anthropic_messages,
            service.ANTHROPIC,
            # Cached tokens are no part of Anthropic's input, but of Strands' total; it leaves out their 0.
            [tokens(10, 5, 415, write=400), tokens(21, 6, 467, read=400, write=40)],
            (31, 11, 400, 440),
            marks=since("1.58", "the total of Anthropic that includes cached tokens"),
        ),
        pytest.param(
            "BedrockModel",
            "us.anthropic.claude-sonnet-4-20250514-v1:0",
            service.converse_stream,
            [tokens(10, 5, 415, read=0, write=400), tokens(21, 6, 467, read=400, write=40)],
            [tokens(10, 5, 415, read=0, write=400), tokens(21, 6, 467, read=400, write=40)],
            (31, 11, 400, 440),
            marks=since("1.5", "the counting of cached tokens"),
        ),
        pytest.param(
            "GeminiModel",
            "gemini-2.5-flash",
            service.stream_generate_content,
            service.GEMINI,
            # Thoughts are output, results of Gemini's own tools input; the cached tokens are a part of it.
            [tokens(40, 7, 47), tokens(1203, 29, 1232, read=1000)],
            (243, 36, 1000, 0),
            marks=since("1.54", "the counting of Gemini's thoughts"),
        ),
        pytest.param(
            "OllamaModel",
            "llama3.2:3b",
            service.ollama_chat,
            service.OLLAMA,
            [tokens(26, 9, 35), tokens(48, 4, 52)],
            (74, 13, 0, 0),
            marks=since("1.34", "the right order of Ollama's counts"),
        ),
    ],
)
def test_events_have_what_the_service_said(
    events, httpserver, model, model_id, speak, said, expected, billed
):
    for usage in said:
        content_type, parts = speak(usage)
        # Strands runs each call in an event loop of its own, where no connection can be used again.
        headers = {"Connection": "close"}
        request = httpserver.expect_ordered_request(re.compile(".*"), method="POST")
        request.respond_with_data(b"".join(parts), headers=headers, content_type=content_type)
    hook, url = TokenUsageHook(emitter=events), f"http://127.0.0.1:{httpserver.port}"
    agent = Agent(model=model_at(url, model, model_id), hooks=[hook], callback_handler=None)
    assert [str(agent("one")), str(agent("two"))] == ["Hello.\n", "Hello.\n"]
    httpserver.check()
    assert [counters(event) for event in events] == expected
    assert [event["Model"] for event in events] == [model_id, model_id]
    recorded = agent.event_loop_metrics.accumulated_usage
    assert events.total() == {name: count for name, count in recorded.items() if count}
    by_hand = sum(count * float(price) for count, price in zip(billed, PRICES.values(), strict=True)) / 1e6
    assert spend(events.total()) == pytest.approx(by_hand)
