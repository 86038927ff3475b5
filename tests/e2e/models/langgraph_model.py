"""Plays a graph around the recipe: a scripted model, an interrupt, and a resume. Prints a line a step."""

import json
import sys

from langchain_core.messages import AIMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Command
from langgraph_tool import run_command

COMMANDS = json.loads(sys.argv[1])


def model(state: MessagesState) -> dict[str, list[AIMessage]]:
    """Ask for each command in its turn, in place of a paid model."""
    done = sum(isinstance(message, ToolMessage) for message in state["messages"])
    if done == len(COMMANDS):
        return {"messages": [AIMessage("That is all.")]}
    call = {"name": "run_command", "args": {"command": COMMANDS[done], "reason": "a test"}, "id": f"call-{done}"}
    return {"messages": [AIMessage("", tool_calls=[call])]}


def next_node(state: MessagesState) -> str:
    return "tools" if state["messages"][-1].tool_calls else END


graph = StateGraph(MessagesState)
graph.add_node("model", model)
graph.add_node("tools", ToolNode([run_command]))
graph.add_edge(START, "model")
graph.add_conditional_edges("model", next_node)
graph.add_edge("tools", "model")
app = graph.compile(checkpointer=InMemorySaver())
config = {"configurable": {"thread_id": "1"}}

state = app.invoke({"messages": [("user", "Go on.")]}, config)
while "__interrupt__" in state:
    print(json.dumps({"interrupt": state["__interrupt__"][0].value}), flush=True)
    sys.stdin.readline()
    state = app.invoke(Command(resume=True), config)
print(json.dumps({"answers": [message.content for message in state["messages"] if message.type == "tool"]}), flush=True)
