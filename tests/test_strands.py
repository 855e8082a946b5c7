"""One hook on agents that work together: the events by AgentName are what each agent's model reported."""

from collections import Counter

import pytest
from strands import Agent, tool
from strands.multiagent import GraphBuilder, Swarm

from scripted import ScriptedModel, fails, make_agent, says, since, uses
from strands_token_telemetry import TokenUsageHook

members_may_have_hooks = since("1.7", "hooks on members of a graph or swarm")
agents_become_tools = pytest.mark.skipif(
    not hasattr(Agent, "as_tool"), reason="Agent.as_tool came with a later Strands"
)


@pytest.fixture
def team(events):
    """Return a function that makes an agent on the one hook; all made with it are checked at the end."""
    hook = TokenUsageHook(dimensions=[["AgentName"]], emitter=events)
    agents = {}

    def member(name, *turns, **kwargs):
        agents[name] = make_agent(*turns, name=name, hooks=[hook], **kwargs)
        return agents[name]

    yield member
    reported = {name: agent.model.reported for name, agent in agents.items()}
    assert {name: events.total(AgentName=name) for name in agents} == reported
    assert events.total() == sum(reported.values(), Counter())


def calls(*tools, tokens):
    """Return a turn that uses tools with arguments."""
    turn = uses(tokens=tokens)
    turn.tools = list(tools)
    return turn


def names(events):
    return [event["AgentName"] for event in events]


def graph_of(*nodes, edges=(), **options):
    builder = GraphBuilder()
    for node in nodes:
        builder.add_node(node, getattr(node, "name", "inner"))
    for edge in edges:
        builder.add_edge(*edge)
    for option, value in {"set_max_node_executions": 20, **options}.items():  # unlimited is a warning
        getattr(builder, option)(value)
    return builder.build()


@members_may_have_hooks
def test_a_graph_of_agents_side_by_side(team, events):
    graph = graph_of(
        team("planner", says(tokens=(1, 1))),
        *(team(f"worker {n}", says(tokens=(10 * n, n))) for n in range(1, 9)),
        team("editor", says(tokens=(500, 5))),
        edges=[edge for n in range(1, 9) for edge in [("planner", f"worker {n}"), (f"worker {n}", "editor")]],
    )
    graph("share the work")
    assert set(names(events)) == {"planner", "editor", *(f"worker {n}" for n in range(1, 9))}


@members_may_have_hooks
@pytest.mark.parametrize("reset_on_revisit", [True, False])
def test_a_graph_that_visits_its_nodes_again(team, events, reset_on_revisit):
    graph = graph_of(
        team("writer", says(tokens=(10, 1)), says(tokens=(30, 3)), says(tokens=(70, 7))),
        team("reviewer", says(tokens=(5, 2)), says(tokens=(6, 3)), says(tokens=(7, 4))),
        edges=[
            ("writer", "reviewer"),
            ("reviewer", "writer", lambda state: len(state.execution_order) < 6),
        ],
        set_entry_point="writer",
        reset_on_revisit=reset_on_revisit,
    )
    graph("write until it is good")
    assert names(events) == ["writer", "reviewer"] * 3


@members_may_have_hooks
def test_a_graph_in_a_graph(team, events):
    inner = graph_of(
        team("researcher", says(tokens=(10, 1))),
        team("writer", says(tokens=(20, 2))),
        edges=[("researcher", "writer")],
    )
    outer = graph_of(
        team("planner", says(tokens=(40, 4))),
        inner,
        team("editor", says(tokens=(80, 8))),
        edges=[("planner", "inner"), ("inner", "editor")],
    )
    outer("write")
    assert names(events) == ["planner", "researcher", "writer", "editor"]


@members_may_have_hooks
def test_a_graph_of_which_a_node_fails(team, events):
    graph = graph_of(
        team("planner", says(tokens=(40, 4))),
        team("researcher", uses("look_up", tokens=(20, 2)), fails()),
        edges=[("planner", "researcher")],
    )
    with pytest.raises(Exception, match="the provider is down"):
        graph("write")
    assert names(events) == ["planner", "researcher"]


@members_may_have_hooks
def test_a_swarm_that_hands_off_and_back(team, events):
    def to(name, tokens):
        return calls(("handoff_to_agent", {"agent_name": name, "message": "your turn"}), tokens=tokens)

    swarm = Swarm(
        [
            team("researcher", to("writer", (10, 1)), says(tokens=(20, 2)), says("Done.", tokens=(30, 3))),
            team("writer", to("researcher", (40, 4)), says(tokens=(80, 8))),
        ]
    )
    swarm("write")
    assert names(events) == ["researcher", "writer", "researcher"]


def in_a_function(agent):
    @tool(name=agent.name)
    def ask() -> str:
        """Ask the agent."""
        return str(agent("what is known?"))

    return ask


def forgetful(agent):
    return agent.as_tool(preserve_context=False)


def remembering(agent):
    return agent.as_tool(preserve_context=True)


@pytest.mark.parametrize(
    "as_tool",
    [
        in_a_function,
        pytest.param(forgetful, marks=agents_become_tools),
        pytest.param(remembering, marks=agents_become_tools),
    ],
)
def test_agents_three_deep_and_two_at_once(team, events, as_tool):
    librarian = team("librarian", says(tokens=(300, 30)), says(tokens=(310, 31)))
    researcher = team(
        "researcher",
        uses("librarian", tokens=(100, 10)),
        uses("librarian", tokens=(110, 11)),
        says(tokens=(120, 12)),
        tools=[as_tool(librarian)],
    )
    critic = team("critic", says(tokens=(7, 3)))
    writer = team(
        "writer",
        uses("researcher", "critic", tokens=(20, 2)),
        says(tokens=(40, 4)),
        tools=[as_tool(researcher), as_tool(critic)],
    )
    writer("write")
    assert Counter(names(events)) == {"librarian": 2, "researcher": 1, "critic": 1, "writer": 1}
    assert names(events)[-1] == "writer"


@pytest.fixture
def goal():
    return pytest.importorskip("strands.vended_plugins.goal", reason="goals came with a later Strands")


@pytest.mark.parametrize("preserve_context", [True, False])
def test_each_attempt_at_a_goal_is_an_event(team, events, goal, preserve_context):
    def is_short(response, agent):
        return response["content"][0]["text"] == "Short."

    loop = goal.GoalLoop(goal=is_short, max_attempts=5, preserve_context=preserve_context)
    turns = [says("Long.", (10, 1)), says("Not so long.", (20, 2)), says("Short.", (40, 4))]
    writer = team("writer", *turns, plugins=[loop])
    writer("write")
    assert [event["inputTokens"] for event in events] == [10, 20, 40]
    assert loop.last_result(writer).passed


def test_the_judge_of_a_goal_is_an_agent_without_the_hook(team, events, goal):
    def verdict(passed):
        return calls(("JudgeOutcome", {"passed": passed, "feedback": "shorter"}), tokens=(500, 50))

    judge = ScriptedModel(verdict(passed=False), verdict(passed=True))
    loop = goal.GoalLoop(goal="It is short.", judge=goal.JudgeConfig(model=judge), max_attempts=5)
    writer = team("writer", says(tokens=(10, 1)), says(tokens=(20, 2)), plugins=[loop])
    writer("write")
    assert loop.last_result(writer).passed
    assert judge.reported["inputTokens"] == 1000
    assert [event["inputTokens"] for event in events] == [10, 20]
