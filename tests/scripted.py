"""Scripted model endpoint: a real HTTP server on loopback that speaks OpenAI's protocol.

A script is a function from a request to a `Reply` or a `Failure`. `python -m tests.scripted DELAY` serves the replies
of the model `rules`, each after DELAY seconds, in a process of its own.
"""

import asyncio
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from nodes.llm.prompting import read_facts
from nodes.llm.rules import RULES

# Characters in a piece of a stream.
PIECE = 3


@dataclass(frozen=True)
class Asked:
    """Request as it arrived."""

    number: int
    """Number among all requests, from 0."""
    path: str
    headers: dict[str, str]
    """Headers, with names in small letters."""
    body: dict[str, Any]
    at: float
    """Time of arrival in seconds of the monotonic clock."""

    @property
    def prompt(self) -> str:
        """All messages as one text."""
        return "\n\n".join(message["content"] for message in self.body["messages"])

    @property
    def facts(self) -> dict[str, Any]:
        """Facts in the prompt."""
        return read_facts(self.prompt)

    @property
    def schema(self) -> dict[str, Any] | None:
        """JSON schema requested for the reply; None if missing."""
        wanted = self.body.get("response_format")
        return None if wanted is None else wanted["json_schema"]["schema"]


@dataclass(frozen=True)
class Reply:
    """Reply of the model."""

    text: str
    delay: float = 0.0
    """Seconds before the reply."""
    gap: float = 0.0
    """Seconds between the pieces of a stream."""
    prompt_tokens: int = 100
    completion_tokens: int = 10
    cached_tokens: int = 0
    finish: str = "stop"
    cut: bool = False
    """Whether the connection drops in the middle of the reply."""

    @property
    def usage(self) -> dict[str, Any]:
        """Usage in the format of the protocol."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
        }


@dataclass(frozen=True)
class Failure:
    """Failure sent instead of a reply."""

    status: int = 0
    """HTTP status; 0 drops the connection without an answer."""
    message: str = "scripted"
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    body: Any = None
    """Body in place of an error in OpenAI's form: JSON, or text that is sent as it is."""

    @property
    def sent(self) -> bytes:
        """Body as it is sent."""
        if isinstance(self.body, str):
            return self.body.encode()
        error = {"error": {"message": self.message, "type": "scripted", "code": None}}
        return json.dumps(error if self.body is None else self.body).encode()


@dataclass(frozen=True)
class Raw(Failure):
    """Answer in a form of its own, given as `body`."""

    status: int = 200


Script = Callable[[Asked], Reply | Failure]


def by_rules(asked: Asked) -> Reply:
    """Answer as the model `rules` does."""
    return Reply(json.dumps(RULES[asked.facts["role"]](asked.facts), ensure_ascii=False))


def without_schemas(script: Script) -> Script:
    """Return the script of a server that refuses JSON schemas."""

    def refuse(asked: Asked) -> Reply | Failure:
        if "response_format" in asked.body:
            return Failure(400, "unknown field `response_format`")
        return script(asked)

    return refuse


class Endpoint:
    """Running endpoint."""

    def __init__(self, script: Script) -> None:
        self.script = script
        """Script; may be replaced while the endpoint runs."""
        self.asked: list[Asked] = []
        """Requests received so far."""
        self.open = 0
        """Number of open requests."""
        self.most_open = 0
        self.port = 0
        self.stop: Callable[[], object] = lambda: None
        """Function that stops the endpoint, from any thread."""

    @property
    def url(self) -> str:
        """Base URL for a client."""
        return f"http://127.0.0.1:{self.port}/v1"

    async def serve(self, ready: Callable[[], None]) -> None:
        """Serve until `stop` is called."""
        loop, stopped = asyncio.get_running_loop(), asyncio.Event()
        self.stop = lambda: loop.call_soon_threadsafe(stopped.set)
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        ready()
        await stopped.wait()
        server.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (asked := await self._read(reader)) is not None:
                self.open += 1
                self.most_open = max(self.most_open, self.open)
                try:
                    if not await self._answer(asked, writer):
                        break
                finally:
                    self.open -= 1
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client went away, or the server ends
        finally:
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> Asked | None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        except asyncio.IncompleteReadError:
            return None
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        body = json.loads(await reader.readexactly(int(headers["content-length"])))
        asked = Asked(len(self.asked), head[0].split()[1], headers, body, time.monotonic())
        self.asked.append(asked)
        return asked

    async def _answer(self, asked: Asked, writer: asyncio.StreamWriter) -> bool:
        """Answer a request, and return whether the connection stays open."""
        does = self.script(asked)
        # The script's own time counts too, so that `delay` is the waiting time of the client.
        await asyncio.sleep(asked.at + does.delay - time.monotonic())
        if isinstance(does, Failure):
            if does.status:
                _send(writer, does.status, does.sent, does.headers)
            goes_on = bool(does.status)
        elif asked.body.get("stream"):
            await _stream(writer, asked, does)
            goes_on = not does.cut
        else:
            choice = {
                "index": 0,
                "message": {"role": "assistant", "content": does.text},
                "finish_reason": does.finish,
            }
            body = {**_frame(asked, "chat.completion"), "choices": [choice], "usage": does.usage}
            _send(writer, 200, json.dumps(body).encode(), {}, cut=does.cut)
            goes_on = not does.cut
        await writer.drain()
        return goes_on


def _frame(asked: Asked, kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{asked.number}", "object": kind, "created": 0, "model": asked.body["model"]}


def _send(
    writer: asyncio.StreamWriter, status: int, body: bytes, headers: dict[str, str], *, cut: bool = False
) -> None:
    shown = {"content-type": "application/json", "content-length": str(len(body)), **headers}
    lines = [f"HTTP/1.1 {status} Scripted", *(f"{name}: {value}" for name, value in shown.items())]
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode() + (body[: len(body) // 2] if cut else body))


async def _stream(writer: asyncio.StreamWriter, asked: Asked, reply: Reply) -> None:
    writer.write(b"HTTP/1.1 200 Scripted\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")

    async def event(data: str) -> None:
        line = f"data: {data}\n\n".encode()
        writer.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
        await writer.drain()
        await asyncio.sleep(reply.gap)

    async def chunk(choices: list[dict[str, Any]], **more: Any) -> None:
        await event(json.dumps({**_frame(asked, "chat.completion.chunk"), "choices": choices, **more}))

    pieces = [reply.text[start : start + PIECE] for start in range(0, len(reply.text), PIECE)]
    for number, piece in enumerate(pieces):
        if reply.cut and number >= len(pieces) // 2:
            return
        await chunk([{"index": 0, "delta": {"role": "assistant", "content": piece}, "finish_reason": None}])
    await chunk([{"index": 0, "delta": {}, "finish_reason": reply.finish}])
    if asked.body.get("stream_options", {}).get("include_usage"):
        await chunk([], usage=reply.usage)
    await event("[DONE]")
    writer.write(b"0\r\n\r\n")


@contextmanager
def serving(script: Script) -> Iterator[Endpoint]:
    """Yield an endpoint that serves in its own thread, on a free port."""
    endpoint = Endpoint(script)
    ready = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(endpoint.serve(ready.set)))
    thread.start()
    try:
        ready.wait()
        yield endpoint
    finally:
        endpoint.stop()
        thread.join()


def main(delay: float) -> None:
    """Print the address, and serve until the process ends."""

    def script(asked: Asked) -> Reply:
        return Reply(by_rules(asked).text, delay=delay)

    endpoint = Endpoint(script)
    asyncio.run(endpoint.serve(lambda: print(endpoint.url, flush=True)))


if __name__ == "__main__":
    main(float(sys.argv[1]))
