"""Servers on 127.0.0.1 that stream a greeting and its usage as the providers' services do."""

from __future__ import annotations

import json
import struct
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from zlib import crc32


@contextmanager
def serve(*replies):
    """Yield a URL whose next POST each gets the next of the replies, and the paths that were posted to."""
    paths = []
    remaining = iter(replies)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            paths.append(self.path.partition("?")[0])
            content_type, parts = next(remaining)
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.send_header("Transfer-Encoding", "chunked")
            # Strands runs each call in an event loop of its own, where no connection can be used again.
            self.send_header("Connection", "close")
            self.end_headers()
            for part in (*parts, b""):
                self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", paths
        finally:
            server.shutdown()
            thread.join()


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
        return (
            json.dumps({**head, "message": {"role": "assistant", "content": text}, **members}).encode()
            + b"\n"
        )

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
