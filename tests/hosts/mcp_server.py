"""An MCP stdio server whose tool calls an agent, with the emitter of docs/examples/stderr.py."""

import runpy
from pathlib import Path

from helpers import make_agent, says
from strands_token_telemetry import TokenUsageHook

try:
    from mcp.server.mcpserver import MCPServer
except ImportError:  # the name in mcp 1
    from mcp.server.fastmcp import FastMCP as MCPServer

recipe = runpy.run_path(str(Path(__file__).parents[2] / "docs/examples/stderr.py"))
hook = TokenUsageHook(emitter=recipe["write_to_stderr"])
server = MCPServer("agents")


@server.tool()
def ask(prompt: str) -> str:
    """Ask the agent."""
    return str(make_agent(says(), hooks=[hook])(prompt))


server.run()
