"""A chat endpoint on loopback that speaks OpenAI's protocol and answers by a script."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from nodes.llm.prompting import Facts, read_facts
from nodes.llm.rules import PLAYS

TOKEN = 4
"""Characters of a token."""
USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}


@dataclass(frozen=True)
class Question:
    """One call, as the endpoint got it."""

    role: str
    """Who is asked: planner, actor, critic or reflector."""
    facts: Facts
    """What the role was told in the fenced block of its prompt."""
    body: dict[str, Any]
    """The whole request."""
    headers: Mapping[str, str]
    """Its headers, by names in small letters."""


Script = Callable[[Question], str]


def by_rules(question: Question) -> str:
    """Answer as the model `rules` does."""
    return json.dumps(PLAYS[question.role](question.facts))


class Endpoint(ThreadingHTTPServer):
    """A running endpoint; it streams where a request asks for it, a few characters a chunk."""

    daemon_threads = True

    def __init__(self, script: Script) -> None:
        super().__init__(("127.0.0.1", 0), _Call)
        self.script = script
        self.questions: list[Question] = []
        """What it was asked so far, in order of arrival."""

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables by which a process finds it."""
        return {"OPENAI_BASE_URL": f"http://127.0.0.1:{self.server_port}/v1", "OPENAI_API_KEY": "for-loopback-only"}


@contextmanager
def endpoint(script: Script = by_rules) -> Iterator[Endpoint]:
    """Run an endpoint while the block runs.

    Args:
        script: Writes the reply to a question; called in a thread for each request.
    """
    with Endpoint(script) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class _Call(BaseHTTPRequestHandler):
    server: Endpoint
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        facts = next(read_facts(one["content"]) for one in body["messages"] if "```json\n" in one["content"])
        question = Question(facts["role"], facts, body, {name.lower(): value for name, value in self.headers.items()})
        self.server.questions.append(question)
        reply = self.server.script(question)
        if body.get("stream"):
            self._stream(reply, body)
        else:
            choice = {"index": 0, "message": {"role": "assistant", "content": reply}, "finish_reason": "stop"}
            self._send(
                "application/json", json.dumps(_completion(body, "chat.completion", [choice]) | {"usage": USAGE})
            )

    def _stream(self, reply: str, body: dict[str, Any]) -> None:
        tokens = [reply[start : start + TOKEN] for start in range(0, len(reply), TOKEN)]
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}, *({"content": one} for one in tokens), {}]
        chunks = [
            _completion(
                body,
                "chat.completion.chunk",
                [{"index": 0, "delta": delta, "finish_reason": None if delta else "stop"}],
            )
            for delta in deltas
        ]
        if body.get("stream_options", {}).get("include_usage"):
            chunks.append(_completion(body, "chat.completion.chunk", []) | {"usage": USAGE})
        lines = [*(json.dumps(chunk) for chunk in chunks), "[DONE]"]
        self._send("text/event-stream", *(f"data: {line}\n\n" for line in lines))

    def _send(self, kind: str, *parts: str) -> None:
        """Send a body in parts, each as soon as it is written."""
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for part in (one.encode() for one in parts):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *args: Any) -> None:
        """Say nothing: the tests ask for what they want to know."""


def _completion(body: dict[str, Any], kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": kind, "created": 0, "model": body["model"], "choices": choices}
