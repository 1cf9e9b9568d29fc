"""An endpoint with files and batches that a test can make expire, fail, forget and break off."""

from __future__ import annotations

import itertools
import json
import random
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from llm_stub import answer_all, completion

Line = dict[str, Any]


class BatchStub:
    """Batches wait until `finish` is called. `status` overrides what a path is answered with: {"POST /v1/batches": 500}.

    `after_making` is called when a batch was made and before that is answered; what it returns is the status of the answer.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.numbers = itertools.count()
        self.calls: list[str] = []
        self.status: dict[str, int] = {}
        self.after_making: Callable[[], int] = lambda: 200
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def reply(self, status: int, body: Any) -> None:
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def answer(self, method: str) -> None:
                raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                path = self.path.split("?")[0]
                stub.calls.append(f"{method} {path}")
                general = re.sub(r"(file|batch)-\d+", "ID", f"{method} {path}")
                if (status := stub.status.get(general, 200)) != 200:
                    return self.reply(status, {"error": {"message": "no", "code": None}})
                return self.reply(*stub.act(method, path, raw, self.headers.get("Content-Type", "")))

            def do_GET(self) -> None:
                self.answer("GET")

            def do_POST(self) -> None:
                self.answer("POST")

            def do_DELETE(self) -> None:
                self.answer("DELETE")

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def act(self, method: str, path: str, raw: bytes, kind: str) -> tuple[int, Any]:
        if method == "POST" and path == "/v1/files":
            part = next(p for p in raw.split(b"--" + kind.split("boundary=")[1].encode()) if b'name="file"' in p)
            return 200, {"id": self.store(part.split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n"))}
        if method == "POST" and path == "/v1/batches":
            body, name = json.loads(raw), f"batch-{len(self.batches)}"
            self.batches[name] = body | {"id": name, "status": "in_progress", "output_file_id": None, "error_file_id": None}
            return self.after_making(), self.batches[name]
        if method == "GET" and path == "/v1/batches":
            return 200, {"data": list(reversed(self.batches.values())), "has_more": False}
        if (found := re.fullmatch(r"/v1/batches/(.+)", path)) and found[1] in self.batches:
            return 200, self.batches[found[1]]
        if (found := re.fullmatch(r"/v1/files/([\w-]+)(/content)?", path)) and found[1] in self.files:
            return 200, self.files.pop(found[1]) if method == "DELETE" else self.files[found[1]]
        return 404, {"error": {"message": "no such thing", "code": "not_found"}}

    def store(self, content: bytes) -> str:
        name = f"file-{next(self.numbers)}"
        self.files[name] = content
        return name

    def requests(self, name: str) -> list[Line]:
        """The requests of a batch."""
        return [json.loads(line) for line in self.files[self.batches[name]["input_file_id"]].splitlines()]

    def items(self) -> list[str]:
        """The first template of every item of every batch whose input is still there."""
        bodies = [line["body"] for name in self.batches for line in self.requests(name)]
        return [item["events"][0]["template"] for body in bodies for item in json.loads(body["messages"][-1]["content"])["items"]]

    def finish(
        self,
        name: str = "batch-0",
        status: str = "completed",
        answer: Callable[[dict[str, Any]], Any] = answer_all,
        keep: Callable[[list[Line]], list[Line]] = lambda lines: lines,
    ) -> None:
        """End a batch: what `keep` leaves of the answers is its output, in any order; the other requests are errors."""
        lines = []
        for line in self.requests(name):
            said = answer(line["body"])
            body = completion(said) if isinstance(said, str) else said
            lines.append({"custom_id": line["custom_id"], "response": {"status_code": 200, "body": body}, "error": None})
        kept = keep(lines)
        ids = {line["custom_id"] for line in kept}
        lost = [
            {"custom_id": line["custom_id"], "response": None, "error": {"code": f"batch_{status}"}}
            for line in lines
            if line["custom_id"] not in ids
        ]
        random.Random(1).shuffle(kept)
        for file, found in (("output_file_id", kept), ("error_file_id", lost)):
            if found:
                self.batches[name][file] = self.store("\n".join(map(json.dumps, found)).encode())
        self.batches[name]["status"] = status
