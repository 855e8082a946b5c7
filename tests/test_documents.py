"""Every block of every document runs as pasted, and no fact in a document drifts from the code."""

import asyncio
import doctest
import inspect
import json
import logging
import os
import queue
import re
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from emf_checker import extract
from helpers import STRANDS, ScriptedModel, checked, counters, events_in, make_agent, says, since, uses_with
from strands_token_telemetry import TokenUsageHook, build_emf_payload
from strands_token_telemetry.checks import TOKEN_METRICS

TESTS, ROOT = Path(__file__).parents[:2]
README, LLMS = ROOT / "README.md", ROOT / "docs/llms.txt"
REFERENCE, CLOUDWATCH = ROOT / "docs/reference.md", ROOT / "docs/cloudwatch.md"
DOCUMENTS = sorted([README, *ROOT.glob("docs/*.md"), *ROOT.glob(".github/*.md"), LLMS])
EXAMPLES = {path.stem: path for path in sorted(ROOT.glob("docs/examples/*.py"))}

each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


def blocks(document, language="python"):
    return re.findall(rf"^ *```{language}\n(.*?)^ *```$", document.read_text(), re.MULTILINE | re.DOTALL)


def recipe(words, language="python"):
    """Return the block of the README that has these words."""
    (block,) = [block for block in blocks(README, language) if words in block]
    return block


PROGRAMS = {f"{name}.py": path.read_text() for name, path in EXAMPLES.items()}
for document in DOCUMENTS:
    for number, code in enumerate(blocks(document)):
        if not any(program.endswith(code) for program in PROGRAMS.values()):  # no copy of another one
            PROGRAMS[f"{document.name}-{number}"] = code


# What comes with these releases; a swarm of an earlier one logs an error of OpenTelemetry's.
NEEDED_STRANDS = {"make_swarm(": (1, 62), "Swarm(": (1, 41), "ContextVar(": (1, 16)}


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
    for words, release in NEEDED_STRANDS.items():
        if words in PROGRAMS[name] and release > STRANDS:
            pytest.skip(f"{words} needs Strands {release}")
    if "fastapi" in PROGRAMS[name]:
        pytest.importorskip("fastapi", reason="needs .ci/run hosts")
    program = finished[name]
    assert (program.returncode, program.stderr) == (0, "")
    events_in(program.stdout.split("\n"))  # checks each


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
    output = finished["quickstart.py"].stdout
    (line,) = re.findall(r"^{.*", output, re.MULTILINE)
    read = [f"{one.namespace} Model=offline-model-1 {one.metric} {one.value}" for one in extract(line)]
    assert [" ".join(row.split()) for row in output.splitlines()[-len(read) :]] == read
    assert re.search(re.escape(recipe("The hook prints", "text")).replace("…", ".*"), output)


@pytest.mark.parametrize("document", [README, LLMS, CLOUDWATCH], ids=lambda path: path.name)
def test_the_event_in_a_document_is_the_one_that_the_hook_makes(document):
    shown = json.loads(blocks(document, "json")[0])
    given = {name: getattr(TokenUsageHook(), name) for name in ("namespace", "dimensions")}
    given |= {"usage": counters(shown), "dimension_values": {"Model": shown["Model"]}}
    assert shown == build_emf_payload(**given, timestamp_ms=shown["_aws"]["Timestamp"])


@pytest.mark.parametrize("document", [README, LLMS], ids=lambda path: path.name)
def test_the_table_of_parameters_is_the_signature(document):
    rows = re.findall(r"^\| `(\w+)` \| `[^`]+` \| `([^`]+)`", document.read_text(), re.MULTILINE)
    assert [name for name, _ in rows] == list(inspect.signature(TokenUsageHook).parameters)
    for name, default in rows:
        value = getattr(TokenUsageHook(), name)
        assert default == (value.__name__ if callable(value) else json.dumps(value).replace("null", "None"))


def metrics_in(document):
    return set(re.findall(r"\b\w+Tokens\b", document.read_text()))


@each_document
def test_a_document_names_only_metrics_that_there_are(document):
    assert metrics_in(document) <= TOKEN_METRICS


def test_the_reference_names_all_metrics():
    assert metrics_in(REFERENCE) == TOKEN_METRICS


def test_no_copy_of_a_recipe_drifts_from_the_others():
    examples = [path.read_text() for path in EXAMPLES.values()]
    of_assistants = [code for code in blocks(LLMS)[1:] if code not in blocks(README)]
    for code in [*of_assistants, recipe("StreamHandler")]:
        assert any(example.endswith(code) for example in examples), code


@each_document
def test_each_link_into_the_repository_leads_somewhere(document):
    text = document.read_text()
    repository = r"github(?:usercontent)?\.com/flockcover/strands-token-telemetry(?:/blob)?/main"
    for path, anchor in re.findall(rf"{repository}/([\w./-]+\w)(?:#([\w-]+))?", text):
        assert (ROOT / path).exists(), path
        assert not anchor or anchor in anchors(ROOT / path), anchor
    assert set(re.findall(r"\]\(#([\w-]+)\)", text)) <= anchors(document)


def test_the_readme_has_only_links_that_pypi_can_follow():
    assert re.findall(r"\]\((?!https://)[^)]*\)", README.read_text()) == []


def anchors(document):
    """Return the anchors that GitHub gives to the headings of a document."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


# The recipes, each against the real thing. Those for stderr and FastAPI are tested in test_hosts.py.


class AsksTheResearcher(ScriptedModel):
    """Uses the tool of the recipe for sessions, if its agent has that tool."""

    def stream(self, messages, tool_specs=None, *args, **kwargs):
        self.turns = [uses_with("research", (10, 5), question="why?"), says()] if tool_specs else [says()]
        return super().stream(messages, tool_specs, *args, **kwargs)


@pytest.fixture
def run(monkeypatch):
    """Return a function that runs a recipe, whose agents have an offline model, and gives its names."""
    monkeypatch.setattr("strands.agent.agent.BedrockModel", AsksTheResearcher)

    def run(code):
        names = {"__name__": "recipe"}
        exec(code, names)
        return names

    return run


@since("1.16", "agent() passing a ContextVar to the hook")
def test_the_session_reaches_each_agent_of_a_request_in_threads_and_under_asyncio(capsys, run):
    names, sessions = run(recipe("session.set")), [f"session-{number}" for number in range(8)]

    async def handle(session):
        names["session"].set(session)
        await names["Agent"](tools=[names["research"]], hooks=[names["hook"]]).invoke_async("Hello")

    async def handle_all():
        in_threads = [asyncio.to_thread(names["handle"], session, "Hello") for session in sessions[4:]]
        await asyncio.gather(*map(handle, sessions[:4]), *in_threads)

    asyncio.run(handle_all())
    events = events_in(capsys.readouterr().out.splitlines())
    spent = sorted((event["SessionId"], event["inputTokens"]) for event in events)
    assert spent == [(session, tokens) for session in ["s-1", *sessions] for tokens in (10, 20)]


def test_the_file_gets_bare_lines(tmp_path, monkeypatch, run):
    monkeypatch.chdir(tmp_path)
    agent = run(EXAMPLES["file"].read_text())["agent"]
    agent("one")
    agent("two")
    assert [checked(line)["inputTokens"] for line in Path("tokens.log").read_text().splitlines()] == [10, 10]


@pytest.mark.parametrize("example", ["logger", "dictconfig"])
def test_the_logger_writes_bare_lines_and_each_once(monkeypatch, capsys, run, example):
    """Even if the root logger has a prefix, and the recipe runs twice, in a function for example."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [logging.StreamHandler()])
    monkeypatch.setattr(logging.getLogger("token_usage"), "handlers", [])
    for agent in [run(EXAMPLES[example].read_text())["agent"] for _ in range(2)]:
        agent("hello")
    assert [checked(line)["inputTokens"] for line in capsys.readouterr().err.splitlines()] == [10, 10]


def test_a_logger_on_stdout_begins_with_a_newline_as_the_readme_says(monkeypatch, capsys, run):
    code = recipe("StreamHandler").replace("StreamHandler()", "StreamHandler(sys.stdout)")
    monkeypatch.setattr(logging.getLogger("token_usage"), "handlers", [])
    run("import sys\n" + code.replace("json.dumps(event)", '"\\n" + json.dumps(event)'))["agent"]("hello")
    text, line = capsys.readouterr().out.splitlines()
    assert (text, checked(line)["inputTokens"]) == ("Hello.", 10)


def test_what_the_cloudwatch_agent_does_not_read_is_in_the_log(run, undelivered):
    """It reads the first line, ends before it has read the second, and does not run at the third."""

    def cloudwatch_agent():
        with server.accept()[0] as connection:
            delivered.append(connection.makefile().read())
        with server.accept()[0] as connection:
            connection.recv(1, socket.MSG_PEEK)  # the line is there, but nobody reads it

    emitter, delivered = run(EXAMPLES["cloudwatch_agent_socket"].read_text())["CloudWatchAgentSocket"], []
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        pool.submit(cloudwatch_agent)
        hook = TokenUsageHook(emitter=emitter("/agents", port=server.getsockname()[1]))
        agent = make_agent(hooks=[hook])
        agent("one")
        agent("two")
    agent("three")
    (line,) = delivered
    assert checked(line.removesuffix("\n"))["_aws"]["LogGroupName"] == "/agents"
    assert undelivered.inputs == [10, 10]


@pytest.fixture
def webhook(run):
    """Run the recipe against a server on 127.0.0.1, which answers when it may, and give its names."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            names["bodies"].put(self.rfile.read(int(self.headers["Content-Length"])).decode())
            names["may_answer"].wait()
            self.send_response(200 if self.path == "/" else 503)
            self.end_headers()

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        names = run(EXAMPLES["webhook"].read_text())
        names |= {"may_answer": threading.Event(), "bodies": queue.Queue()}
        names["url"] = f"http://127.0.0.1:{server.server_port}/"
        yield names
        server.shutdown()


def test_the_webhook_holds_up_no_agent_and_the_hook_logs_what_is_too_much(webhook, undelivered):
    webhook["waiting"].maxsize = 3
    webhook["agent"]("hello")
    bodies = [webhook["bodies"].get(timeout=10)]  # the server has it, and does not answer yet
    for _ in range(5):
        webhook["agent"]("hello")
    assert undelivered.inputs == [10, 10]
    webhook["may_answer"].set()
    bodies += [webhook["bodies"].get(timeout=10) for _ in range(3)]
    assert [checked(body)["inputTokens"] for body in bodies] == [10] * 4


def test_the_webhook_logs_what_the_server_refuses(webhook, monkeypatch):
    logged = queue.Queue()
    monkeypatch.setattr(logging.getLogger("recipe"), "filters", [lambda record: logged.put(record.args[0])])
    webhook["may_answer"].set()
    webhook["url"] += "is-down"
    webhook["agent"]("hello")
    assert checked(logged.get(timeout=10))["inputTokens"] == 10
