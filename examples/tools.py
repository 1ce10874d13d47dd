"""Let the model call functions, with the official client: `python examples/tools.py [QUESTION]`.

The client runs what the model asks for and sends the results back; the server
remembers the conversation by the id of its last response.
"""

import json
import os
import sys

import openai

QUESTION = sys.argv[1] if len(sys.argv) > 1 else "What is 21 times 2?"
MOST_ROUNDS = 3


def multiply(a: float, b: float) -> float:
    """Return the product of two numbers."""
    return a * b


FUNCTIONS = {"multiply": multiply}
NUMBER = {"type": "number", "minimum": -1e6, "maximum": 1e6}
TOOLS = [
    {
        "type": "function",
        "name": "multiply",
        "description": multiply.__doc__,
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"a": NUMBER, "b": NUMBER},
            "required": ["a", "b"],
            "additionalProperties": False,
        },
    }
]


def main() -> None:
    """Ask, run what is called, and print the answer."""
    client = openai.OpenAI(
        base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8080/v1"),
        api_key=os.environ.get("OPENAI_API_KEY", "none"),
    )
    model = client.models.list().data[0].id
    response = client.responses.create(
        model=model, input=QUESTION, tools=TOOLS, tool_choice="required"
    )
    for _ in range(MOST_ROUNDS):
        results = []
        for call in (item for item in response.output if item.type == "function_call"):
            found = FUNCTIONS[call.name](**json.loads(call.arguments))
            print(f"{call.name}({call.arguments}) = {found}")
            result = {"type": "function_call_output", "call_id": call.call_id}
            results.append(result | {"output": str(found)})
        if not results:
            break
        response = client.responses.create(
            model=model, input=results, tools=TOOLS, previous_response_id=response.id
        )
    print(response.output_text)


main()
