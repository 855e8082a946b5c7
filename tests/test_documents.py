"""Every block of every document runs as pasted, and no fact in a document drifts from the code."""

import doctest
import http.server
import importlib
import inspect
import json
import os
import queue
import re
import runpy
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from emf_checker import extract, parse
from scripted import STRANDS, make_agent
from strands_token_telemetry import TokenUsageHook, build_emf_payload
from strands_token_telemetry.emf import TOKEN_METRICS

TESTS = Path(__file__).parent
ROOT = TESTS.parent
README, LLMS, CLOUDWATCH = ROOT / "README.md", ROOT / "docs/llms.txt", ROOT / "docs/cloudwatch.md"
DOCUMENTS = sorted([README, *ROOT.glob("docs/*.md"), *ROOT.glob(".github/*.md"), LLMS])
EXAMPLES = {path.stem: path for path in sorted(ROOT.glob("docs/examples/*.py"))}

each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


def blocks(document, language="python"):
    return re.findall(rf"^ *```{language}\n(.*?)^ *```$", document.read_text(), re.MULTILINE | re.DOTALL)


PROGRAMS = {f"{name}.py": path.read_text() for name, path in EXAMPLES.items()}
for document in DOCUMENTS:
    for number, code in enumerate(blocks(document)):
        if not any(example.endswith(code) for example in PROGRAMS.values()):  # the recipes of llms.txt
            PROGRAMS[f"{document.name}-{number}"] = code


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Run each program alone in a process of its own, as pasted; give what each one left behind."""

    def run(code):
        path = os.pathsep.join(map(str, [TESTS / "offline", TESTS, *sys.path]))
        return subprocess.run(
            [sys.executable, "-"],
            input=code,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            cwd=tmp_path_factory.mktemp("pasted"),
            env={**os.environ, "PYTHONPATH": path},
        )

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(PROGRAMS, pool.map(run, PROGRAMS.values()), strict=True))


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_python_block_runs_as_pasted(finished, name):
    program = finished[name]
    if "event.invocation_state" in PROGRAMS[name] and STRANDS < (1, 24):
        pytest.skip("AfterInvocationEvent.invocation_state came with Strands 1.24")
    assert (program.returncode, program.stderr) == (0, "")
    for line in program.stdout.splitlines():
        if line.startswith('{"_aws"'):
            extract(line)
            assert '"SessionId"' not in PROGRAMS[name] or parse(line)["SessionId"] == "s-1"


@each_document
def test_every_json_block_is_json_and_every_shell_block_is_shell(document):
    for code in blocks(document, "json"):
        json.loads(code)
    for code in blocks(document, "sh"):
        subprocess.run(["bash", "-n"], input=code, text=True, check=True)


@pytest.mark.parametrize("module", ["emf", "emitters", "hook"])
def test_the_examples_in_docstrings_are_true(module):
    results = doctest.testmod(importlib.import_module(f"strands_token_telemetry.{module}"))
    assert results.failed == 0
    assert results.attempted


def test_the_quickstart_prints_a_line_and_what_cloudwatch_reads_from_it(capfd):
    runpy.run_path(str(EXAMPLES["quickstart"]))
    lines = capfd.readouterr().out.splitlines()
    (line,) = [line for line in lines if line.startswith("{")]
    for datum in extract(line):
        (row,) = [row for row in lines if f" {datum.metric} " in row]
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
        timestamp_ms=shown["_aws"]["Timestamp"],
    )


@pytest.mark.parametrize("document", [README, LLMS], ids=lambda path: path.name)
def test_the_table_of_parameters_is_the_signature(document):
    rows = re.findall(r"^\| `(\w+)` \| `([^`]+)` \| `([^`]+)`", document.read_text(), re.MULTILINE)
    hook = TokenUsageHook()
    assert [name for name, _, _ in rows] == list(inspect.signature(TokenUsageHook).parameters)
    for name, kind, default in rows:
        value = getattr(hook, name)
        assert default == (value.__name__ if callable(value) else json.dumps(value).replace("null", "None"))
        annotation = TokenUsageHook.__init__.__annotations__[name].removesuffix(" | None")
        assert kind == annotation.replace("str | None]", "str]").replace("Mapping", "dict")


@pytest.mark.parametrize("documented", [TokenUsageHook, build_emf_payload])
def test_the_parameters_are_all_in_the_docstring(documented):
    parameters = [*inspect.signature(documented).parameters]
    described = re.findall(r"^ {4,8}(\w+): ", inspect.cleandoc(documented.__doc__), re.MULTILINE)
    assert described[: len(parameters)] == parameters


@each_document
def test_no_document_names_a_metric_that_there_is_not(document):
    assert set(re.findall(r"\b\w+Tokens\b", document.read_text())) <= TOKEN_METRICS


def test_the_metrics_in_the_readme_are_those_of_the_hook():
    assert set(re.findall(r"^\| `(\w+Tokens)` \|", README.read_text(), re.MULTILINE)) == TOKEN_METRICS


@pytest.mark.parametrize("name", ["cloudwatch_agent_socket", "logging_to_a_file", "webhook"])
def test_the_recipes_for_assistants_are_the_examples(name):
    first_import = re.search(r"^(import|from) .*\Z", EXAMPLES[name].read_text(), re.MULTILINE | re.DOTALL)
    assert first_import[0] in blocks(LLMS)


def test_no_two_examples_share_a_global_name():
    bound = [
        name
        for path in EXAMPLES.values()
        for name in set(re.findall(r"^(?:class |def |)(\w+)(?= =|[:(].*:$)", path.read_text(), re.MULTILINE))
    ]
    assert len(set(bound)) == len(bound) >= 9, bound


def test_the_guide_for_assistants_follows_the_convention_and_stays_short():
    title, _, summary = LLMS.read_text().split("\n")[:3]
    assert title == "# strands-token-telemetry"
    assert summary.startswith("> ")
    assert len(LLMS.read_text()) <= 10_000


def test_the_readme_has_only_links_that_work_on_pypi():
    for target in re.findall(r"\]\(([^)]+)\)", README.read_text()):
        assert target.startswith("https://"), target
    assert "<img" not in README.read_text()


@each_document
def test_links_into_the_repository_lead_somewhere(document):
    text = document.read_text()
    for base in (
        "github.com/flockcover/strands-token-telemetry/blob",
        "raw.githubusercontent.com/flockcover/strands-token-telemetry",
    ):
        for path, anchor in re.findall(rf"{base}/main/([\w./-]+\w)(?:#([\w-]+))?", text):
            assert (ROOT / path).exists(), path
            assert not anchor or anchor in anchors(ROOT / path), anchor
    for anchor in re.findall(r"\]\(#([\w-]+)\)", text):
        assert anchor in anchors(document), anchor


def anchors(document):
    """Return the anchors that GitHub gives to the headings of a document."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


# The emitters of docs/examples, each against the real thing. The one for the CloudWatch agent's socket and
# the one for stderr are tested in their hosts, in test_hosts.py.


def example(name, monkeypatch):
    """Return the names of an example, whose agent has an offline model."""
    monkeypatch.syspath_prepend(TESTS / "offline")
    runpy.run_module("sitecustomize")
    return runpy.run_path(str(EXAMPLES[name]))


def test_the_file_gets_bare_lines(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    agent = make_agent(
        hooks=[TokenUsageHook(emitter=example("logging_to_a_file", monkeypatch)["log_to_file"])]
    )
    agent("one")
    agent("two")
    lines = Path("tokens.log").read_text().splitlines()
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
def collecting():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Bodies) as server:
        server.bodies = queue.Queue()
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_the_webhook_delivers_and_empties_its_queue_when_it_is_closed(monkeypatch):
    with collecting() as server:
        webhook = example("webhook", monkeypatch)["Webhook"](f"http://127.0.0.1:{server.server_port}/")
        agent = make_agent(hooks=[TokenUsageHook(emitter=webhook)])
        for _ in range(20):
            agent("hello")
        webhook.close()
        assert server.bodies.qsize() == 20
        assert extract(server.bodies.get().decode())[0].value == 10


def test_the_webhook_does_not_hold_up_the_agent_and_what_it_cannot_deliver_is_in_the_log(
    monkeypatch, undelivered
):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, never answers
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        webhook = example("webhook", monkeypatch)["Webhook"](url, size=2)
        agent = make_agent(hooks=[TokenUsageHook(emitter=webhook)])
        start = time.monotonic()
        for _ in range(6):
            agent("hello")
        webhook.close(patience=0.1)
        assert time.monotonic() - start < 4  # the time-out of a request is five seconds
        assert undelivered.inputs == [10] * 6
    while webhook.waiting:  # until the closed connection has ended the requests
        time.sleep(0.01)


def test_the_webhook_logs_what_the_server_refuses(monkeypatch, undelivered):
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    webhook = example("webhook", monkeypatch)["Webhook"](f"http://127.0.0.1:{port}/")
    make_agent(hooks=[TokenUsageHook(emitter=webhook)])("hello")
    webhook.close()
    assert undelivered.inputs == [10]
