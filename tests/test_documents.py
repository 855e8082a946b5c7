"""Every block of every document runs as pasted, and no fact in a document drifts from the code."""

import doctest
import inspect
import json
import os
import re
import runpy
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from emf_checker import extract
from helpers import STRANDS, ScriptedModel, checked, counters, make_agent
from strands_token_telemetry import TokenUsageHook, build_emf_payload
from strands_token_telemetry.checks import TOKEN_METRICS

TESTS = Path(__file__).parent
ROOT = TESTS.parent
README, LLMS = ROOT / "README.md", ROOT / "docs/llms.txt"
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
    offline = tmp_path_factory.mktemp("offline")  # lets Agent() have an offline model instead of Bedrock's
    assign = "import strands.agent.agent as agent, helpers; agent.BedrockModel = helpers.ScriptedModel"
    (offline / "sitecustomize.py").write_text(assign)
    path = os.pathsep.join(map(str, [offline, TESTS, *sys.path]))
    options = {"capture_output": True, "text": True, "timeout": 60, "env": {**os.environ, "PYTHONPATH": path}}

    def run(code):
        folder = tmp_path_factory.mktemp("pasted")
        return subprocess.run([sys.executable, "-"], input=code, cwd=folder, check=False, **options)

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(PROGRAMS, pool.map(run, PROGRAMS.values()), strict=True))


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_python_block_runs_as_pasted(finished, name):
    program = finished[name]
    if "event.invocation_state" in PROGRAMS[name] and STRANDS < (1, 24):
        pytest.skip("AfterInvocationEvent.invocation_state came with Strands 1.24")
    assert (program.returncode, program.stderr) == (0, "")
    for line in re.findall(r'^{"_aws".*', program.stdout, re.MULTILINE):
        event = checked(line)
        assert '"SessionId"' not in PROGRAMS[name] or event["SessionId"] == "s-1"


@each_document
def test_every_json_block_is_json_and_every_shell_block_is_shell(document):
    for code in blocks(document, "json"):
        json.loads(code)
    for code in blocks(document, "sh"):
        subprocess.run(["bash", "-n"], input=code, text=True, check=True)


@pytest.mark.parametrize("module", ["emf", "emitters", "hook"])
def test_the_examples_in_docstrings_are_true(module):
    results = doctest.testmod(sys.modules[f"strands_token_telemetry.{module}"])
    assert (results.failed, results.attempted > 0) == (0, True)


def test_the_quickstart_prints_a_line_and_what_cloudwatch_reads_from_it(finished):
    lines = finished["quickstart.py"].stdout.splitlines()
    (line,) = [line for line in lines if line.startswith("{")]
    for datum in extract(line):
        (row,) = [row for row in lines if f" {datum.metric} " in row]
        assert row.split() == [datum.namespace, "Model=offline-model-1", datum.metric, str(datum.value)]


def test_the_line_in_the_readme_is_the_one_that_the_hook_makes():
    (shown,) = map(json.loads, blocks(README, "json"))
    given = {"usage": counters(shown), "dimension_values": {"Model": shown["Model"]}}
    given |= {name: getattr(TokenUsageHook(), name) for name in ("namespace", "dimensions")}
    assert shown == build_emf_payload(**given, timestamp_ms=shown["_aws"]["Timestamp"])


@pytest.mark.parametrize("document", [README, LLMS], ids=lambda path: path.name)
def test_the_table_of_parameters_is_the_signature(document):
    rows = re.findall(r"^\| `(\w+)` \| `([^`]+)` \| `([^`]+)`", document.read_text(), re.MULTILINE)
    assert [name for name, _, _ in rows] == list(inspect.signature(TokenUsageHook).parameters)
    for name, kind, default in rows:
        value = getattr(TokenUsageHook(), name)
        assert default == (value.__name__ if callable(value) else json.dumps(value).replace("null", "None"))
        annotation = TokenUsageHook.__init__.__annotations__[name].removesuffix(" | None")
        assert kind == annotation.replace("str | None]", "str]").replace("Mapping", "dict").replace(
            "Emitter", "Callable[[dict[str, Any]], None]"
        )


@pytest.mark.parametrize("documented", [TokenUsageHook, build_emf_payload])
def test_the_parameters_are_all_in_the_docstring(documented):
    parameters = [*inspect.signature(documented).parameters]
    described = re.findall(r"^ {4,8}(\w+): ", inspect.cleandoc(documented.__doc__), re.MULTILINE)
    assert described[: len(parameters)] == parameters


@each_document
def test_a_document_names_only_metrics_that_there_are_and_the_table_in_the_readme_has_them_all(document):
    text = document.read_text()
    assert set(re.findall(r"\b\w+Tokens\b", text)) <= TOKEN_METRICS
    assert document != README or set(re.findall(r"^\| `(\w+Tokens)` \|", text, re.MULTILINE)) == TOKEN_METRICS


@pytest.mark.parametrize("name", ["cloudwatch_agent_socket", "logging_to_a_file", "webhook"])
def test_the_recipes_for_assistants_are_the_examples(name):
    first_import = re.search(r"^(import|from) .*\Z", EXAMPLES[name].read_text(), re.MULTILINE | re.DOTALL)
    assert first_import[0] in blocks(LLMS)


def test_no_two_examples_share_a_global_name():
    is_bound = re.compile(r"^(?:class |def |)(\w+)(?= =|[:(].*:$)", re.MULTILINE)
    bound = [name for path in EXAMPLES.values() for name in set(is_bound.findall(path.read_text()))]
    assert len(set(bound)) == len(bound) >= 9, bound


def test_the_guide_for_assistants_follows_the_convention_and_stays_short():
    guide = LLMS.read_text()
    assert guide.startswith("# strands-token-telemetry\n\n> ")
    assert len(guide) <= 10_000


@each_document
def test_links_into_the_repository_lead_somewhere_and_those_of_the_readme_from_pypi_too(document):
    text = document.read_text()
    repository = r"github(?:usercontent)?\.com/flockcover/strands-token-telemetry(?:/blob)?/main"
    for path, anchor in re.findall(rf"{repository}/([\w./-]+\w)(?:#([\w-]+))?", text):
        assert (ROOT / path).exists(), path
        assert not anchor or anchor in anchors(ROOT / path), anchor
    assert set(re.findall(r"\]\(#([\w-]+)\)", text)) <= anchors(document)
    assert document != README or re.findall(r"\]\((?!https://)[^)]*\)|<img", text) == []


def anchors(document):
    """Return the anchors that GitHub gives to the headings of a document."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


# The emitters of docs/examples, each against the real thing. The one for the CloudWatch agent's socket and
# the one for stderr are tested in their hosts, in test_hosts.py.


@pytest.fixture
def example(monkeypatch):
    """Return a function that runs an example, whose agent has an offline model, and gives its names."""
    monkeypatch.setattr("strands.agent.agent.BedrockModel", ScriptedModel)
    return lambda name: runpy.run_path(str(EXAMPLES[name]))


def test_the_file_gets_bare_lines(tmp_path, monkeypatch, capfd, example):
    monkeypatch.chdir(tmp_path)
    agent = make_agent(hooks=[TokenUsageHook(emitter=example("logging_to_a_file")["log_to_file"])])
    agent("one")
    agent("two")
    assert [checked(line)["inputTokens"] for line in Path("tokens.log").read_text().splitlines()] == [10, 10]
    assert capfd.readouterr() == ("", "")


def test_the_webhook_delivers_and_empties_its_queue_when_it_is_closed(example):
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(200)
            self.end_headers()

    bodies = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        webhook = example("webhook")["Webhook"](f"http://127.0.0.1:{server.server_port}/")
        agent = make_agent(hooks=[TokenUsageHook(emitter=webhook)])
        for _ in range(20):
            agent("hello")
        webhook.close()
        server.shutdown()
    assert [checked(line)["inputTokens"] for line in bodies] == [10] * 20


@pytest.mark.parametrize(("server", "patience"), [("is silent", 0.1), ("is gone", 5)])
def test_a_webhook_that_cannot_deliver_logs_it_and_holds_up_no_agent(example, undelivered, server, patience):
    with socket.create_server(("127.0.0.1", 0)) as listener:  # takes connections, never answers
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        if server == "is gone":
            listener.close()
        webhook = example("webhook")["Webhook"](url, size=2)
        agent = make_agent(hooks=[TokenUsageHook(emitter=webhook)])
        start = time.monotonic()
        for _ in range(6):
            agent("hello")
        webhook.close(patience)
        assert time.monotonic() - start < 4  # the time-out of a request is five seconds
        assert undelivered.inputs == [10] * 6
    while webhook.waiting:  # until the closed connection has ended the requests
        time.sleep(0.01)
