"""Agents in real hosts, each a process on 127.0.0.1: every line is whole, and the sum is right."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.request import ProxyHandler, Request, build_opener

import pytest

from helpers import events_in

pytestmark = pytest.mark.skipif(not hasattr(os, "killpg"), reason="there are no process groups here")

HOSTS = Path(__file__).parent / "hosts"
PATIENCE = 20  # seconds for any one step, on a busy machine

without_proxy = build_opener(ProxyHandler({}))


def needs(package):
    return pytest.importorskip(package, reason="needs .ci/run hosts")


class Host:
    """A running Python program, and the lines of its stdout and stderr so far."""

    def __init__(self, process):
        self.process = process
        self.out, self.err = [], []

    def read(self, stream, lines):
        with stream:
            for line in stream:
                lines.append(line.decode().removesuffix("\n"))
                print(lines[-1])  # pytest shows it if the test fails

    def send(self, message):
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()

    def wait_until(self, condition):
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert self.process.poll() is None, "the program has ended"
            assert time.monotonic() < deadline, "it takes too long"
            time.sleep(0.01)


@contextmanager
def running(*command, files=(), **environment):
    """Run a program and kill it at the end, because the line of a call must be out when its answer is."""
    left_out = ("PYTHONUNBUFFERED", "FORCE_COLOR", "AWS_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    host = Host(
        subprocess.Popen(
            [sys.executable, *command],
            **dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE),
            pass_fds=files,
            start_new_session=True,  # so that its children can be killed with it
            cwd=HOSTS,
            env={**inherited, "PYTHONPATH": os.pathsep.join([str(HOSTS.parent), *sys.path]), **environment},
        )
    )
    with host.process, ThreadPoolExecutor(2) as readers:
        readers.submit(host.read, host.process.stdout, host.out)
        readers.submit(host.read, host.process.stderr, host.err)
        try:
            yield host
        finally:
            with suppress(ProcessLookupError):
                os.killpg(host.process.pid, signal.SIGKILL)


@contextmanager
def serving(*command, **environment):
    """Run a web server on a socket that is open before it starts, so that no request comes too early."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port, number = listener.getsockname()[1], listener.fileno()
        command = [part.replace("FD", str(number)) for part in command]
        with running(*command, files=[number], **environment) as host:
            listener.close()
            yield host, port


def open_response(port, path, body=None, **headers):
    return without_proxy.open(Request(f"http://127.0.0.1:{port}{path}", body, headers), timeout=PATIENCE)


def request(port, path="/", message=None):
    """Return the body of the response to a GET, or to a POST of a message."""
    body = None if message is None else json.dumps(message).encode()
    with open_response(port, path, body, **{"Content-Type": "application/json"}) as response:
        return response.read().decode()


def totals(lines):
    return [event["totalTokens"] for event in events_in(lines)]


@pytest.mark.parametrize(
    ("log_format", "prefix", "buffering"),
    [
        pytest.param("Text", "[WARNING]\t", {}, id="text log format"),
        pytest.param("JSON", '{"timestamp": ', {"PYTHONUNBUFFERED": "1"}, id="JSON log format, unbuffered"),
    ],
)
def test_lambda_gets_a_line_for_each_invocation_and_for_a_failed_one(log_format, prefix, buffering):
    needs("awslambdaric")
    server, response = needs("pytest_httpserver").HTTPServer(threaded=True), needs("werkzeug").Response
    path, prompts, answers = "/2018-06-01/runtime/invocation/", iter(["one", "two", "fail"]), []
    ended = threading.Event()

    def next_invocation(_):
        prompt = next(prompts, None)
        if prompt is None:
            ended.wait()  # Lambda does not answer while there is nothing to do
            return response(status=410)
        deadline = str(int((time.time() + PATIENCE) * 1000))
        headers = {"Lambda-Runtime-Aws-Request-Id": prompt, "Lambda-Runtime-Deadline-Ms": deadline}
        return response(json.dumps({"prompt": prompt}), headers=headers, mimetype="application/json")

    def take(answer):
        answers.append((answer.path.removeprefix(path), answer.json))
        return response(status=202)

    server.expect_request(f"{path}next").respond_with_handler(next_invocation)
    server.expect_request(re.compile(".*"), method="POST").respond_with_handler(take)
    with server:
        environment = {"AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{server.port}", **buffering}
        command = ("-m", "awslambdaric", "aws_lambda.handler")
        with running(*command, AWS_LAMBDA_LOG_FORMAT=log_format, **environment) as host:
            host.wait_until(lambda: len(answers) == 3)
        ended.set()
    assert answers[:2] == [("one/response", "Hello.\n"), ("two/response", "Hello.\n")]
    assert answers[2][0] == "fail/error"
    assert totals(host.out) == [38, 15, 23]  # the agent of the first two is the same one
    logged = [line for line in host.out if "a question came in" in line]
    assert [line.startswith(prefix) for line in logged] == [True, True, True]


@pytest.mark.parametrize(
    ("entrypoint", "answer"), [("answers", '"Hello.\\n"'), ("streams", 'data: "Hello."\n\n')]
)
def test_bedrock_agentcore_gets_a_line_for_each_invocation(entrypoint, answer):
    needs("bedrock_agentcore")
    with serving("agentcore.py", entrypoint, "FD", PYTHONUNBUFFERED="1") as (host, port):
        answers = [request(port, "/invocations", {"prompt": "hello"}) for _ in range(2)]
        assert answers == [answer, answer]
        assert json.loads(request(port, "/ping"))["status"] == "Healthy"
    assert totals(host.out) == [15, 15]
    assert "".join(host.out).count("Hello.") == 2


def test_both_gunicorn_workers_write_whole_lines_with_a_hook_made_before_the_fork():
    needs("gunicorn")
    command = ("-m", "gunicorn", "web:wsgi", "--preload", "--workers=2", "--bind=fd://FD")
    workers = Counter()
    with serving(*command) as (host, port), ThreadPoolExecutor(4) as pool:
        while len(workers) < 2 or min(workers.values()) < 2:  # a worker may be late
            assert workers.total() < 100, workers
            workers.update(pool.map(request, [port] * 4))
    assert len(workers) == 2
    assert totals(host.out) == [15] * workers.total()
    assert "".join(host.out).count("Hello.") == workers.total()


def test_fastapi_streams_each_answer_with_its_session_even_if_the_client_goes_away():
    needs("fastapi")
    needs("uvicorn")

    def ask(session, prompt="hello"):
        return open_response(port, f"/ask?prompt={prompt}", **{"X-Session-Id": session})

    def answer(session):
        with ask(session) as response:
            return response.read()

    sessions = [f"s-{number}" for number in range(8)]
    with serving("-m", "uvicorn", "streaming:app", "--fd=FD") as (host, port), ThreadPoolExecutor(4) as pool:
        assert list(pool.map(answer, sessions)) == [b"Hello."] * 8
        with ask("gone", "wait") as response:
            assert response.read(1) == b"I"  # and the model goes on
        host.wait_until(lambda: len(events_in(host.out)) == 9)
    spent = {event["SessionId"]: event["totalTokens"] for event in events_in(host.out)}
    assert spent == {**dict.fromkeys(sessions, 15), "gone": 23}


def test_an_mcp_server_keeps_stdout_for_the_protocol_with_the_recipe_for_stderr():
    needs("mcp")
    with running("mcp_server.py") as host:

        def ask(method, **params):
            asked.append(method)
            host.send({"jsonrpc": "2.0", "id": len(asked), "method": method, "params": params})

        asked = []
        client = {"name": "test", "version": "1"}
        ask("initialize", protocolVersion="2025-06-18", capabilities={}, clientInfo=client)
        host.wait_until(lambda: len(host.out) >= 1)
        host.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        for _ in range(4):
            ask("tools/call", name="ask", arguments={"prompt": "hello"})
        host.wait_until(lambda: len(host.out) >= 5)
    replies = [json.loads(line) for line in host.out]
    assert [reply["jsonrpc"] for reply in replies] == ["2.0"] * 5
    assert sorted(reply["id"] for reply in replies) == [1, 2, 3, 4, 5]
    assert [reply["result"]["content"][0]["text"] for reply in replies[1:]] == ["Hello.\n"] * 4
    assert totals(host.err) == [15] * 4


@pytest.mark.parametrize(("redirected", "stream"), [("", "out"), ("yes", "err")])
def test_a_celery_worker_writes_whole_lines(tmp_path, monkeypatch, redirected, stream):
    """To stdout, or to its log, where the prefix takes a line of its own."""
    needs("celery")
    for folder in ("queue", "control"):
        (tmp_path / folder).mkdir()
    environment = {"CELERY_FOLDER": str(tmp_path), "CELERY_REDIRECTED": redirected}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(HOSTS)
    monkeypatch.delitem(sys.modules, "celery_tasks", raising=False)
    from celery_tasks import app, ask

    worker = ("-m", "celery", "-A", "celery_tasks", "worker", "--concurrency=2", "--without-mingle")
    with running(*worker, **environment) as host, app:
        results = [ask.delay("hello") for _ in range(6)]
        assert [result.get(timeout=PATIENCE, interval=0.05) for result in results] == ["Hello.\n"] * 6
    assert totals(getattr(host, stream)) == [15] * 6
