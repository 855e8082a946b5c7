"""One hook on agents that work together or use other features of Strands: all their tokens are counted."""

import asyncio
import itertools
from collections import Counter
from functools import partial

import pytest
from strands import Agent, tool
from strands.hooks import AfterInvocationEvent
from strands.multiagent import GraphBuilder, Swarm
from strands.multiagent.base import MultiAgentBase, MultiAgentResult, Status
from strands.telemetry.metrics import EventLoopMetrics

from helpers import Events, ScriptedModel, fails, make_agent, says, since, uses, uses_with
from strands_token_telemetry import TokenUsageHook

agents_become_tools = pytest.mark.skipif(
    not hasattr(Agent, "as_tool"), reason="Agent.as_tool came with a later Strands"
)
orchestrators_have_an_event = since("1.23", "MultiAgentInitializedEvent in strands.hooks")
orchestrators_have_plugins = since("1.41", "plugins of orchestrators")


class Team:
    """Agents that are counted by one hook, which each of them has, or the graph or swarm that they are in."""

    def __init__(self, events, hook_is_in="hooks of each agent"):
        self.hook = TokenUsageHook(dimensions=[["AgentName"]], emitter=events)
        self.hook_is_in = hook_is_in
        self.agents = {}

    def __call__(self, name, *turns, **kwargs):
        """Make an agent. Without turns, it spends a number of tokens that no other agent spends."""
        turns = turns or [says(tokens=(2 ** len(self.agents), 3 ** len(self.agents)))]
        hooks = [self.hook] if self.hook_is_in == "hooks of each agent" else []
        self.agents[name] = make_agent(*turns, name=name, hooks=hooks, **kwargs)
        return self.agents[name]

    def swarm(self, *agents):
        given = {} if self.hook_is_in == "hooks of each agent" else {self.hook_is_in: [self.hook]}
        return Swarm(list(agents), **given)

    def graph(self, *nodes, **options):
        setter = {"hooks": "set_hook_providers", "plugins": "set_plugins"}.get(self.hook_is_in)
        return graph_of(*nodes, **({setter: [self.hook]} if setter else {}), **options)


def graph_of(*nodes, edges=None, **options):
    """Build a graph of nodes, one after the other if there are no edges."""
    builder, ids = GraphBuilder(), [getattr(node, "name", "inner") for node in nodes]
    for node, node_id in zip(nodes, ids, strict=True):
        builder.add_node(node, node_id)
    for edge in edges or itertools.pairwise(ids):
        builder.add_edge(*edge)
    for option, value in {"set_max_node_executions": 20, **options}.items():  # unlimited is a warning
        getattr(builder, option)(value)
    return builder.build()


@pytest.fixture
def team(request, events):
    """Give a team to a test. At the end, the events of each agent are what its model reported."""
    team = Team(events, getattr(request, "param", "hooks of each agent"))
    yield team
    reported = {name: agent.model.reported for name, agent in team.agents.items()}
    assert {name: events.total(AgentName=name) for name in team.agents} == reported
    assert events.total() == sum(reported.values(), Counter())


HOOKS_OF_THE_GRAPH = pytest.param("hooks", marks=orchestrators_have_an_event)
in_each_place = pytest.mark.parametrize(
    "team",
    [
        pytest.param("hooks of each agent", marks=since("1.7", "hooks on members of a graph or swarm")),
        HOOKS_OF_THE_GRAPH,
        pytest.param("plugins", marks=orchestrators_have_plugins),
    ],
    indirect=True,
)


def names(events):
    return [event["AgentName"] for event in events]


# Graphs and swarms.


@in_each_place
def test_a_graph_of_agents_side_by_side(team, events):
    workers = [f"worker {number}" for number in range(8)]
    edges = [edge for worker in workers for edge in [("planner", worker), (worker, "editor")]]
    team.graph(*map(team, ["planner", *workers, "editor"]), edges=edges)("share the work")
    assert set(names(events)) == {"planner", "editor", *workers}


@in_each_place
@pytest.mark.parametrize("reset_on_revisit", [True, False])
def test_a_graph_that_visits_its_nodes_again(team, events, reset_on_revisit):
    graph = team.graph(
        team("writer", says(tokens=(10, 1)), says(tokens=(30, 3)), says(tokens=(70, 7))),
        team("reviewer", says(tokens=(5, 2)), says(tokens=(6, 3)), says(tokens=(7, 4))),
        edges=[("writer", "reviewer"), ("reviewer", "writer", lambda state: len(state.execution_order) < 6)],
        set_entry_point="writer",
        reset_on_revisit=reset_on_revisit,
    )
    graph("write until it is good")
    assert names(events) == ["writer", "reviewer"] * 3


@in_each_place
def test_a_graph_in_a_graph_of_which_a_node_fails(team, events):
    inner = graph_of(team("researcher"), team("writer", says(tokens=(10, 1))))
    failing = team("editor", uses("look_up", tokens=(20, 2)), fails())
    with pytest.raises(Exception, match="the provider is down"):
        team.graph(team("planner"), inner, failing)("write")
    assert names(events) == ["planner", "researcher", "writer", "editor"]


@in_each_place
def test_a_swarm_that_hands_off_and_back(team, events):
    def to(name, tokens):
        return uses_with("handoff_to_agent", tokens, agent_name=name, message="your turn")

    turns = to("writer", (10, 1)), says(tokens=(20, 2)), says("Done.", (30, 3))
    team.swarm(team("researcher", *turns), team("writer", to("researcher", (40, 4)), says()))("write")
    assert names(events) == ["researcher", "writer", "researcher"]


@pytest.mark.parametrize("team", [HOOKS_OF_THE_GRAPH], indirect=True)
def test_an_agent_with_the_hook_in_graphs_with_the_same_hook_counts_once(team, events, caplog):
    """A service may build a graph for each request."""
    shared, other = team("shared"), team("other")
    shared.hooks.add_hook(team.hook)
    for _ in range(3):
        team.graph(shared, other)("go")
    assert names(events) == ["shared", "other"] * 3
    assert caplog.records == []


@orchestrators_have_an_event
def test_an_agent_keeps_the_first_hook_and_one_warning_says_so(events, caplog):
    """Whether it is its own, or that of the first of many graphs, each with a hook made for one request."""
    first, others = TokenUsageHook(emitter=events), Events()
    agent = make_agent(name="shared", hooks=[first])
    for _ in range(3):
        graph_of(agent, set_hook_providers=[TokenUsageHook(emitter=others)])("go")
    assert (events.inputs, others.inputs) == ([10, 10, 10], [])
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "agent 'shared' keeps its first TokenUsageHook" in record.getMessage()


@orchestrators_have_an_event
def test_a_hook_that_a_finished_graph_gets_counts_from_its_next_run(events):
    graph = graph_of(make_agent(), make_agent(name="other"))
    graph.hooks.add_hook(TokenUsageHook(emitter=events))
    graph("go")
    graph("go on")
    assert events.inputs == [10] * 4


class OtherNode(MultiAgentBase):
    """A node that is no agent of this process, such as a function, or an agent on another machine."""

    name = id = "other"

    async def invoke_async(self, task, invocation_state=None, **kwargs):
        return MultiAgentResult(status=Status.COMPLETED)

    def serialize_state(self):
        return {}

    def deserialize_state(self, payload):
        pass


@orchestrators_have_an_event
def test_a_node_that_is_no_agent_is_left_out_with_one_warning(events, caplog):
    agent = make_agent(name="first")
    for _ in range(2):
        graph_of(OtherNode(), agent, set_hook_providers=[TokenUsageHook(emitter=events)])
    agent("hello")
    assert events.inputs == [10]
    (record,) = [record for record in caplog.records if "'other'" in record.getMessage()]
    assert record.levelname == "WARNING"
    assert "has no agents that the hook can reach" in record.getMessage()


@orchestrators_have_an_event
def test_the_agents_of_an_orchestrator_of_the_users_own_are_counted(events):
    agent, own = make_agent(), OtherNode()
    own.nodes = {"agent": agent}
    graph_of(own, set_hook_providers=[TokenUsageHook(emitter=events)])
    agent("hello")
    assert events.inputs == [10]


@orchestrators_have_an_event
def test_an_orchestrator_of_the_users_own_without_nodes_is_logged(caplog):
    from strands.hooks import HookRegistry, MultiAgentInitializedEvent

    registry = HookRegistry()
    registry.add_hook(TokenUsageHook())
    asyncio.run(registry.invoke_callbacks_async(MultiAgentInitializedEvent(OtherNode())))
    assert "'OtherNode' has no agents that the hook can reach" in caplog.text


class BrokenNodes(OtherNode):
    @property
    def nodes(self):
        raise RuntimeError("not yet")


@orchestrators_have_an_event
def test_nodes_that_cannot_be_read_are_logged_and_the_graph_is_built(events, caplog):
    graph_of(BrokenNodes(), set_hook_providers=[TokenUsageHook(emitter=events)])
    assert "some nodes may not be counted" in caplog.text


# Agents as tools, and other features.


def in_a_function(agent):
    @tool(name=agent.name)
    def ask() -> str:
        """Ask the agent."""
        return str(agent("what is known?"))

    return ask


@pytest.mark.parametrize(
    "as_tool",
    [
        in_a_function,
        pytest.param(lambda agent: agent.as_tool(preserve_context=False), marks=agents_become_tools),
        pytest.param(lambda agent: agent.as_tool(preserve_context=True), marks=agents_become_tools),
    ],
    ids=["in a function", "an agent that forgets", "an agent that remembers"],
)
def test_agents_three_deep_and_two_at_once(team, events, as_tool):
    librarian = as_tool(team("librarian", says(tokens=(300, 30)), says(tokens=(310, 31))))
    asks_twice = uses("librarian", tokens=(100, 10)), uses("librarian", tokens=(110, 11)), says()
    helpers = as_tool(team("researcher", *asks_twice, tools=[librarian])), as_tool(team("critic"))
    team("writer", uses("researcher", "critic"), says(), tools=list(helpers))("write")
    assert Counter(names(events)) == {"librarian": 2, "researcher": 1, "critic": 1, "writer": 1}
    assert names(events)[-1] == "writer"


def test_the_judge_of_a_goal_is_an_agent_without_the_hook(team, events):
    goal = pytest.importorskip("strands.vended_plugins.goal", reason="goals came with a later Strands")
    verdicts = (uses_with("JudgeOutcome", (500, 50), passed=passed, feedback="") for passed in (False, True))
    judge = ScriptedModel(*verdicts)
    loop = goal.GoalLoop(goal="It is short.", judge=goal.JudgeConfig(model=judge), max_attempts=5)
    team("writer", says(tokens=(10, 1)), says(tokens=(20, 2)), plugins=[loop])("write")
    assert judge.reported["inputTokens"] == 1000
    assert events.inputs == [10, 20]


def test_a_middleware_that_answers_with_the_result_of_another_agent(team):
    stage = pytest.importorskip("strands.middleware._agent_stream", reason="it came with a later Strands")
    from strands.types._events import EventLoopStopEvent

    async def answer_of_another(context, next_fn):
        async for event in next_fn(context):
            if isinstance(event, EventLoopStopEvent):
                result = await other.invoke_async("say it better")
                event = EventLoopStopEvent(result.stop_reason, result.message, result.metrics, {})
            yield event

    agent, other = team("agent"), team("other")
    agent.add_middleware(stage.AgentStreamStage, answer_of_another)
    agent("hello")
    agent("hello")


def test_a_call_that_is_cut_while_a_plugin_waits_for_its_tasks(team):
    pytest.importorskip("strands.background_tasks", reason="background tasks came with a later Strands")

    @tool
    async def slow() -> str:
        """Take a long time."""
        await asyncio.sleep(30)
        return "done"

    agent = team("agent", uses("slow"), says(), tools=[slow], background_tasks={"always": ["slow"]})
    with pytest.raises(asyncio.TimeoutError):
        asyncio.run(asyncio.wait_for(agent.invoke_async("go"), 0.5))


@since("1.43", "the order of callbacks")
def test_another_hook_that_replaces_the_metrics_after_each_call(team):
    agent = team("agent")
    replace = partial(setattr, agent, "event_loop_metrics")
    agent.hooks.add_callback(AfterInvocationEvent, lambda event: replace(EventLoopMetrics()))
    agent("hello")
    agent("hello")
