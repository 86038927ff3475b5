"""Plays an agent of the OpenAI Agents SDK around the recipe, with a scripted model. Prints a line a step."""

import asyncio
import json
import sys

from agents import Model, ModelResponse, Runner, Usage, set_tracing_disabled
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText
from openai_agents_tool import make_agent

COMMANDS = json.loads(sys.argv[1])


class Scripted(Model):
    """Asks for each command in its turn, in place of a paid model."""

    async def get_response(self, system_instructions, input, *more, **others):  # noqa: A002 - the SDK's own name
        """Return the next call of the tool, or the last words."""
        items = [item for item in input if isinstance(item, dict)] if isinstance(input, list) else []
        done = [item["output"] for item in items if item.get("type") == "function_call_output"]
        if len(done) < len(COMMANDS):
            given = json.dumps({"command": COMMANDS[len(done)], "reason": "a test"})
            call = ResponseFunctionToolCall(
                arguments=given, call_id=f"call-{len(done)}", name="run_command", type="function_call"
            )
            return ModelResponse(output=[call], usage=Usage(), response_id=None)
        text = ResponseOutputText(annotations=[], text=json.dumps({"answers": done}), type="output_text")
        message = ResponseOutputMessage(id="1", content=[text], role="assistant", status="completed", type="message")
        return ModelResponse(output=[message], usage=Usage(), response_id=None)

    def stream_response(self, *more, **others):
        """Nobody asks for it here."""
        raise NotImplementedError


set_tracing_disabled(True)
result = asyncio.run(Runner.run(make_agent(Scripted()), "Go on."))
print(result.final_output, flush=True)
