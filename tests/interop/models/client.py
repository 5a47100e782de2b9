"""A client of model servers by PyPI's openai: it reads orders, one JSON object a line, and answers each by one line of JSON.

`client.mjs` takes the same orders and answers the same; tests/all/mock_models.rs compares the two. The server's URL and the key
are in the environment variables of the SDK.
"""

import json
import sys

from openai import OpenAI

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": f"Tell the {name} of a city.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
    for name in ("weather", "time")
]
SCHEMA = {
    "type": "object",
    "properties": {"said": {"type": "string"}, "count": {"type": "integer"}},
    "required": ["said", "count"],
    "additionalProperties": False,
}


class Client:
    def __init__(self, order: dict):
        self.openai = OpenAI(max_retries=order.get("retries", 0), timeout=order.get("timeout", 60))
        self.order = order
        self.model = order.get("model", "stand-in")

    def models(self) -> dict:
        return {"models": [model.id for model in self.openai.models.list()]}

    def chat(self) -> dict:
        answer = self.ask(self.messages())
        if not answer.choices:
            return {"choices": 0}
        choice = answer.choices[0]
        return {
            "model": answer.model,
            "text": choice.message.content,
            "finish": choice.finish_reason,
            "tokens": answer.usage.total_tokens if answer.usage else None,
        }

    def stream(self) -> dict:
        return self.read(self.messages())

    def tools(self) -> dict:
        """Ask with tools, tell their results, and get the answer to them."""
        messages = self.messages()
        first = self.read(messages, tools=TOOLS)
        calls = first["calls"]
        functions = [{"name": call["name"], "arguments": call["arguments"]} for call in calls]
        asked = [
            {"id": call["id"], "type": "function", "function": function} for call, function in zip(calls, functions)
        ]
        messages.append({"role": "assistant", "tool_calls": asked})
        for call in calls:
            city = json.loads(call["arguments"])["city"]
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": f"{call['name']} in {city}"})
        second = self.read(messages, tools=TOOLS)
        return {"calls": functions, "finish": first["finish"], "text": second["text"]}

    def structured(self) -> dict:
        schema = {"name": "said", "schema": SCHEMA, "strict": True}
        answer = self.ask(self.messages(), response_format={"type": "json_schema", "json_schema": schema})
        return json.loads(answer.choices[0].message.content)

    def response(self) -> dict:
        answer = self.openai.responses.create(model=self.model, input=self.order["text"])
        return {"text": answer.output_text, "status": answer.status, "tokens": answer.usage.total_tokens}

    def response_stream(self) -> dict:
        text, last = "", None
        for event in self.openai.responses.create(model=self.model, input=self.order["text"], stream=True):
            if event.type == "response.output_text.delta":
                text += event.delta
            last = event
        whole = last.response.output_text if last.type == "response.completed" else None
        return {"text": text, "last": last.type, "whole": whole}

    def messages(self) -> list:
        return [{"role": "user", "content": self.order["text"]}]

    def ask(self, messages: list, **more):
        return self.openai.chat.completions.create(model=self.model, messages=messages, **more)

    def read(self, messages: list, **more) -> dict:
        """Read a stream, and put its pieces together."""
        parts, calls, finish, tokens, empty = [], [], None, None, 0
        stream = self.ask(messages, stream=True, stream_options={"include_usage": True}, **more)
        for chunk in stream:
            if chunk.usage:
                tokens = chunk.usage.total_tokens
            if not chunk.choices:
                empty += 1
                continue
            choice = chunk.choices[0]
            finish = choice.finish_reason or finish
            if choice.delta.content:
                parts.append(choice.delta.content)
            for piece in choice.delta.tool_calls or []:
                if piece.index == len(calls):
                    calls.append({"id": piece.id, "name": piece.function.name, "arguments": ""})
                calls[piece.index]["arguments"] += piece.function.arguments
        text = "".join(parts)
        bytes_max = self.order.get("shown", len(text))
        told = {"text": text[:bytes_max], "length": len(text), "parts": len(parts), "finish": finish}
        return {**told, "tokens": tokens, "calls": calls, "empty": empty}


def answer(order: dict) -> dict:
    try:
        return getattr(Client(order), order["do"].replace("-", "_"))()
    except Exception as error:  # each is told
        kinds = [kind.__name__ for kind in type(error).__mro__]
        status, code = getattr(error, "status_code", None), getattr(error, "code", None)
        return {"error": kinds[0], "is_api_error": "APIError" in kinds, "status": status, "code": code}


for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))), flush=True)
