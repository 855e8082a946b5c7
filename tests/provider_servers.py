"""A greeting and its usage in the words of each provider's service: the type and the parts of its stream."""

import json
import struct
from zlib import crc32

# What the services say of two calls, in their own words.
OPENAI = [
    {"prompt_tokens": 30, "completion_tokens": 11, "total_tokens": 41},
    {
        "prompt_tokens": 1200,
        "completion_tokens": 7,
        "total_tokens": 1207,
        "prompt_tokens_details": {"cached_tokens": 1024, "cache_write_tokens": 128},
    },
]
ANTHROPIC = [
    dict(input_tokens=10, output_tokens=5, cache_read_input_tokens=0, cache_creation_input_tokens=400),
    dict(input_tokens=21, output_tokens=6, cache_read_input_tokens=400, cache_creation_input_tokens=40),
]
GEMINI = [
    {"promptTokenCount": 40, "candidatesTokenCount": 7, "totalTokenCount": 47},
    {
        "promptTokenCount": 1200,
        "candidatesTokenCount": 9,
        "totalTokenCount": 1232,
        "cachedContentTokenCount": 1000,
        "thoughtsTokenCount": 20,
        "toolUsePromptTokenCount": 3,
    },
]
OLLAMA = [{"prompt_eval_count": 26, "eval_count": 9}, {"prompt_eval_count": 48, "eval_count": 4}]


def chat_completions(usage):
    """Speak OpenAI's chat completions: the usage comes last, in a chunk without choices."""

    def chunk(*choices, usage=None):
        head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o"}
        return _sse({**head, "choices": choices, "usage": usage})

    def choice(finish_reason=None, **delta):
        return {"index": 0, "delta": delta, "finish_reason": finish_reason}

    return "text/event-stream", [
        chunk(choice(role="assistant", content="")),
        chunk(choice(content="Hel")),
        chunk(choice(content="lo.")),
        chunk(choice("stop")),
        chunk(usage=usage),
        b"data: [DONE]\n\n",
    ]


def anthropic_messages(usage):
    """Speak Anthropic's messages: the input comes first, the output so far both first and last."""

    def event(kind, **members):
        return f"event: {kind}\n".encode() + _sse({"type": kind, **members})

    message = {"id": "msg_1", "type": "message", "role": "assistant", "content": [], "model": "claude"}
    message |= {"stop_reason": None, "stop_sequence": None, "usage": {**usage, "output_tokens": 1}}
    stop = {"stop_reason": "end_turn", "stop_sequence": None}
    return "text/event-stream", [
        event("message_start", message=message),
        event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        event("ping"),
        event("content_block_delta", index=0, delta={"type": "text_delta", "text": "Hel"}),
        event("content_block_delta", index=0, delta={"type": "text_delta", "text": "lo."}),
        event("content_block_stop", index=0),
        event("message_delta", delta=stop, usage={"output_tokens": usage["output_tokens"]}),
        event("message_stop"),
    ]


def ollama_chat(usage):
    """Speak Ollama's chat: a JSON object a line, the last of them with the counts."""

    def line(text, **members):
        head = {"model": "llama3.2", "created_at": "2025-01-01T00:00:00Z"}
        message = {"role": "assistant", "content": text}
        return json.dumps({**head, "message": message, **members}).encode() + b"\n"

    end = {"done": True, "done_reason": "stop", "total_duration": 5_000_000, "load_duration": 1_000_000}
    return "application/x-ndjson", [
        line("Hel", done=False),
        line("lo.", done=False),
        line("", **end, **usage),
    ]


def converse_stream(usage):
    """Speak Bedrock's ConverseStream: messages in the binary framing of AWS event streams."""
    return "application/vnd.amazon.eventstream", [
        _aws_message("messageStart", {"role": "assistant"}),
        _aws_message("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Hel"}}),
        _aws_message("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "lo."}}),
        _aws_message("contentBlockStop", {"contentBlockIndex": 0}),
        _aws_message("messageStop", {"stopReason": "end_turn"}),
        _aws_message("metadata", {"usage": usage, "metrics": {"latencyMs": 5}}),
    ]


def stream_generate_content(usage):
    """Speak Gemini's streamGenerateContent: each chunk has the counts so far."""

    def chunk(text, usage, **members):
        candidate = {"index": 0, "content": {"role": "model", "parts": [{"text": text}]}, **members}
        return _sse({"candidates": [candidate], "usageMetadata": usage, "modelVersion": "gemini-2.5-flash"})

    prompt = usage["promptTokenCount"]
    return "text/event-stream", [
        chunk("Hel", {"promptTokenCount": prompt, "totalTokenCount": prompt}),
        chunk("lo.", usage, finishReason="STOP"),
    ]


def _sse(data):
    return b"data: " + json.dumps(data).encode() + b"\n\n"


def _aws_message(event_type, payload):
    """Return a message of https://smithy.io/2.0/aws/amazon-eventstream.html."""
    string = 7
    headers = b"".join(
        struct.pack(f">B{len(name)}sBH{len(value)}s", len(name), name, string, len(value), value)
        for name, value in [
            (b":message-type", b"event"),
            (b":event-type", event_type.encode()),
            (b":content-type", b"application/json"),
        ]
    )
    body = json.dumps(payload).encode()
    message = struct.pack(">II", 16 + len(headers) + len(body), len(headers))
    message += struct.pack(">I", crc32(message))
    message += headers + body
    return message + struct.pack(">I", crc32(message))
