"""Every Python block in every document runs, and no fact in a document drifts from the code."""

import doctest
import http.server
import importlib
import inspect
import json
import logging
import queue
import re
import runpy
import socket
import socketserver
import subprocess
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import strands.agent.agent

from emf_checker import extract, parse
from scripted import STRANDS, ScriptedModel, make_agent
from strands_token_telemetry import TokenUsageHook, build_emf_payload
from strands_token_telemetry.emf import TOKEN_METRICS

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
LLMS = ROOT / "docs/llms.txt"
DOCUMENTS = sorted([README, *ROOT.glob("docs/*.md"), *ROOT.glob(".github/*.md"), LLMS])


def blocks(document, language="python"):
    return re.findall(rf"^```{language}\n(.*?)^```$", document.read_text(), re.MULTILINE | re.DOTALL)


def block(document, containing):
    (found,) = [code for code in blocks(document) if containing in code]
    return found


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """Let `Agent()` have an offline model instead of Bedrock, and files lie in a folder of the test."""
    monkeypatch.setattr(strands.agent.agent, "BedrockModel", ScriptedModel)
    monkeypatch.chdir(tmp_path)
    yield
    log = logging.getLogger("token_metrics")
    for handler in log.handlers[:]:
        log.removeHandler(handler)
        handler.close()
    log.propagate = True


@pytest.mark.parametrize(
    ("document", "number"),
    [
        pytest.param(document, number, id=f"{document.name}-{number}")
        for document in DOCUMENTS
        for number in range(len(blocks(document)))
    ],
)
def test_every_python_block_runs(offline, capfd, document, number):
    code = blocks(document)[number]
    if "event.invocation_state" in code and STRANDS < (1, 24):
        pytest.skip("AfterInvocationEvent.invocation_state came with Strands 1.24")
    # A block may use what the first one of its document imports.
    names = {}
    exec(compile(blocks(document)[0], str(document), "exec"), names)
    exec(compile(code, f"{document.name}, block {number}", "exec"), names)
    for name in ("agent", "hook"):
        assert name not in names or isinstance(names[name], (strands.Agent, TokenUsageHook))
    for line in capfd.readouterr().out.splitlines():
        if line.startswith('{"_aws"'):
            extract(line)
            # Before Strands 1.16 a ContextVar does not reach a synchronous call.
            if "Hello" in code and '"SessionId"' in code and STRANDS >= (1, 16):
                assert parse(line)["SessionId"] == "s-1"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_json_block_is_json_and_every_shell_block_is_shell(document):
    for code in blocks(document, "json"):
        json.loads(code)
    for code in blocks(document, "sh") + re.findall(
        r"^ +```sh\n(.*?)^ +```$", document.read_text(), re.MULTILINE | re.DOTALL
    ):
        subprocess.run(["bash", "-n"], input=code, text=True, check=True)


@pytest.mark.parametrize("module", ["emf", "emitters", "hook", "usage"])
def test_the_examples_in_docstrings_are_true(module):
    results = doctest.testmod(importlib.import_module(f"strands_token_telemetry.{module}"))
    assert results.failed == 0
    assert results.attempted or module == "usage"


def test_the_quickstart_prints_a_line_and_what_cloudwatch_extracts_from_it(capfd):
    runpy.run_path(str(ROOT / "docs/examples/quickstart.py"))
    text, line, *table = capfd.readouterr().out.splitlines()
    assert text == "Tokens are counted."
    for datum in extract(line):
        (row,) = [row for row in table if f" {datum.metric} " in row]
        assert row.split() == [datum.namespace, "Model=offline-model-1", datum.metric, str(datum.value)]


def test_the_line_in_the_readme_is_the_one_that_the_hook_makes():
    (text,) = blocks(README, "json")
    shown = json.loads(text)
    (directive,) = shown["_aws"]["CloudWatchMetrics"]
    assert shown == build_emf_payload(
        usage={metric["Name"]: shown[metric["Name"]] for metric in directive["Metrics"]},
        namespace=TokenUsageHook().namespace,
        dimensions=TokenUsageHook().dimensions,
        dimension_values={"Model": shown["Model"]},
        extra_properties={"SessionId": shown["SessionId"]},
        timestamp_ms=shown["_aws"]["Timestamp"],
    )


@pytest.mark.parametrize("document", [README, LLMS], ids=lambda path: path.name)
def test_the_table_of_parameters_is_the_signature(document):
    rows = re.findall(r"^\| `(\w+)` \| `([^`]+)` \| `([^`]+)`", document.read_text(), re.MULTILINE)
    hook = TokenUsageHook()
    parameters = list(inspect.signature(TokenUsageHook).parameters)
    assert [name for name, _, _ in rows] == parameters
    for name, kind, default in rows:
        value = getattr(hook, name)
        assert default == (value.__name__ if callable(value) else json.dumps(value).replace("null", "None"))
        annotation = TokenUsageHook.__init__.__annotations__[name].removesuffix(" | None")
        wider = annotation.replace("str | None]", "str]").replace("Mapping", "dict")
        assert kind == wider


def test_the_parameters_are_all_in_the_docstrings():
    for documented in (TokenUsageHook, build_emf_payload):
        names = inspect.signature(documented).parameters
        assert re.findall(r"^ {4,8}(\w+): ", inspect.cleandoc(documented.__doc__), re.MULTILINE)[
            : len(names)
        ] == [*names]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_no_document_names_a_metric_that_there_is_not(document):
    for name in re.findall(r"\b\w+Tokens\b", document.read_text()):
        assert name in TOKEN_METRICS, name


def test_the_recipes_for_assistants_are_those_of_the_readme():
    recipes = [code for code in blocks(LLMS) if "def " in code or "import" in code]
    assert len(recipes) == 5
    first, *others = recipes
    assert re.sub("  #.*", "", first) in blocks(README)
    for code in others:
        assert code in blocks(README)


def test_the_guide_for_assistants_follows_the_convention_and_stays_short():
    title, _, summary = LLMS.read_text().split("\n")[:3]
    assert title == "# strands-token-telemetry"
    assert summary.startswith("> ")
    assert len(LLMS.read_text()) < 3.65 * 2500  # characters a token, as measured for this text


def test_the_readme_has_no_link_that_breaks_on_pypi():
    for target in re.findall(r"\]\(([^)]+)\)", README.read_text()):
        assert target.startswith("https://"), target
    assert "<img" not in README.read_text()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_into_the_repository_lead_somewhere(document):
    base = "https://github.com/flockcover/strands-token-telemetry/blob/main/"
    raw = "https://raw.githubusercontent.com/flockcover/strands-token-telemetry/main/"
    text = document.read_text()
    for prefix in (base, raw):
        for path in re.findall(re.escape(prefix) + r"([\w./-]+\w)", text):
            assert (ROOT / path).exists(), path


# The emitters of the README, each against the real thing.


def recipe(containing, **replacements):
    """Run a block of the README with other addresses, and return its names."""
    code = block(README, containing)
    for old, new in replacements.values():
        assert old in code
        code = code.replace(old, new)
    names = {"TokenUsageHook": TokenUsageHook, "__name__": "recipe"}
    exec(code, names)
    return names


def test_the_logging_emitter_writes_bare_lines_to_a_file(offline, tmp_path, capfd):
    agent = make_agent(hooks=[recipe("WatchedFileHandler")["hook"]])
    agent("one")
    agent("two")
    lines = (tmp_path / "tokens.log").read_text().splitlines()
    assert [extract(line)[0].value for line in lines] == [10, 10]
    assert capfd.readouterr() == ("", "")


class Bodies(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.server.bodies.put(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args):
        pass


@contextmanager
def serving(server):
    with server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server
        server.shutdown()


def webhook_to(port):
    return recipe("class Webhook", url=("https://metrics.example.com/tokens", f"http://127.0.0.1:{port}/"))


def test_the_webhook_delivers_and_empties_its_queue_when_it_is_closed():
    with serving(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Bodies)) as server:
        server.bodies = queue.Queue()
        hook = webhook_to(server.server_port)["hook"]
        agent = make_agent(hooks=[hook])
        for _ in range(20):
            agent("hello")
        hook.emitter.close()
        assert server.bodies.qsize() == 20
        assert extract(server.bodies.get().decode())[0].value == 10


def test_the_webhook_does_not_hold_up_the_agent_and_what_it_cannot_deliver_is_in_the_log(caplog):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, never answers
        webhook = webhook_to(silent.getsockname()[1])["Webhook"](
            f"http://127.0.0.1:{silent.getsockname()[1]}/", size=2
        )
        agent = make_agent(hooks=[TokenUsageHook(emitter=webhook)])
        start = time.monotonic()
        for _ in range(6):
            agent("hello")
        webhook.close(patience=0.1)
        assert time.monotonic() - start < 4  # the time-out of a request is five seconds
    overflow = [record for record in caplog.records if record.name == "strands_token_telemetry"]
    left = [record for record in caplog.records if record.name == "recipe"]
    assert len(overflow) + len(left) in (5, 6)  # one may be under way
    assert parse(overflow[0].getMessage().partition(": ")[2])["inputTokens"] == 10
    assert '"inputTokens": 10' in left[0].getMessage()
    while webhook.queue.unfinished_tasks > len(left):  # until the closed connection has ended the request
        time.sleep(0.01)


def test_the_webhook_logs_what_the_server_refuses(caplog):
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    hook = webhook_to(port)["hook"]
    make_agent(hooks=[hook])("hello")
    hook.emitter.close()
    (record,) = [record for record in caplog.records if record.name == "recipe"]
    assert '"inputTokens": 10' in record.getMessage()


class Lines(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.server.lines.put(line.decode())


def test_the_socket_of_the_cloudwatch_agent_gets_lines_that_name_their_log_group():
    with serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Lines)) as server:
        server.lines = queue.Queue()
        names = recipe("create_connection", port=("25888", str(server.server_address[1])))
        agent = make_agent(hooks=[names["hook"]])
        agent("one")
        agent("two")
        for _ in range(2):
            line = server.lines.get(timeout=5)
            assert line.endswith("\n")
            assert extract(line[:-1])[0].value == 10
            assert parse(line[:-1])["_aws"]["LogGroupName"] == "agents/tokens"


def test_without_a_cloudwatch_agent_the_counts_are_in_the_log(caplog):
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    make_agent(hooks=[recipe("create_connection", port=("25888", str(port)))["hook"]])("hello")
    (record,) = caplog.records
    assert record.exc_info[0] is ConnectionRefusedError
    assert '"inputTokens":10' in record.getMessage()
