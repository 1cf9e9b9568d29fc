"""An endpoint of one's own, for what the recorded server never does: refusals, bad ids, broken connections."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from nightlog.settings import Settings

Reaction = Callable[[dict[str, Any]], Any]


class Stub:
    """An endpoint that reacts to the n-th request as the n-th of `reactions` says, and to all later ones as the last does.

    A reaction gets the request's JSON and returns the message's content, a whole response as dict, (status, body, headers), where the
    body may be an iterator of bytes that is sent as it comes, or None to cut the connection.
    """

    def __init__(self) -> None:
        self.reactions: list[Reaction] = [answer_all]
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                stub.requests.append(body)
                stub.headers.append({name.lower(): value for name, value in self.headers.items()})
                reply = stub.reactions[min(len(stub.requests), len(stub.reactions)) - 1](body)
                if reply is None:
                    return
                as_content = completion(reply) if isinstance(reply, str) else reply
                status, content, headers = reply if isinstance(reply, tuple) else (200, as_content, {})
                if isinstance(content, Iterator):
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.end_headers()
                    with contextlib.suppress(OSError):  # the client did not wait
                        for chunk in content:
                            self.wfile.write(chunk)
                    return
                data = content.encode() if isinstance(content, str) else json.dumps(content).encode()
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the client did not wait
                    self.wfile.write(data)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def items(self, number: int = -1) -> list[dict[str, Any]]:
        """The items of the n-th request."""
        found: list[dict[str, Any]] = json.loads(self.requests[number]["messages"][-1]["content"])["items"]
        return found


def completion(content: str | None, finish_reason: str = "stop", refusal: str | None = None) -> dict[str, Any]:
    message = {"role": "assistant", "content": content, "refusal": refusal}
    return {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": "stub",
        "choices": [{"index": 0, "finish_reason": finish_reason, "message": message}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
    }


def verdict_on(item: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The verdict anomalous where a template says `broken`, else normal."""
    broken = any("broken" in event["template"] for event in item["events"])
    label, reason = ("anomalous", "something broke") if broken else ("normal", "ordinary work")
    return {"id": item["id"], "label": label, "confidence": 0.9, "reason": reason} | changes


def asked(body: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(body["messages"][-1]["content"])["items"]
    return found


def answer_all(body: dict[str, Any]) -> str:
    return json.dumps({"verdicts": [verdict_on(item) for item in asked(body)]})


def settings_at(url: str, **settings: Any) -> Settings:
    """Settings for an endpoint that is known to be fast: its first request is as large as any."""
    known: dict[str, Any] = {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": "sk-test-key-000000", "llm": "openai", "llm_first_items": 500}
    return Settings(**(known | {"llm_timeout_s": 5, "llm_at_once": 1} | settings))
