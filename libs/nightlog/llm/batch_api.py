"""The Batch API of an OpenAI-compatible endpoint: submit, find, fetch. Every response is validated."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

from openai import APIStatusError, OpenAI, OpenAIError
from pydantic import BaseModel, ValidationError

from nightlog.llm.client import Completion, Failure
from nightlog.llm.retries import RetryPolicy, consequence, describe, is_refused_for_now, is_transient, slug

ENDPOINT: Literal["/v1/chat/completions"] = "/v1/chat/completions"
OURS = "nightlog"  # the key of the batch's name in its metadata
FINISHED = frozenset({"completed", "expired", "cancelled", "failed"})
PAGES = 50  # of a hundred batches, when one is looked for
NO_SUCH_PATH = (404, 405, 501)
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class NotFound:
    """The endpoint has no such batch or file, or no such service."""

    trouble: str


@dataclass(frozen=True)
class NotSubmitted:
    """No batch was made, for certain; `stop`: no other can be made either."""

    trouble: str
    stop: bool


class BatchError(BaseModel):
    """The reason why a batch, or a request in it, failed."""

    code: str | None = None


class BatchErrors(BaseModel):
    """All reasons of a failed batch."""

    data: list[BatchError] | None = None


class BatchState(BaseModel):
    """The state of a batch at the endpoint."""

    id: str
    status: str
    input_file_id: str | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    errors: BatchErrors | None = None
    metadata: dict[str, str] | None = None

    @property
    def trouble(self) -> str | None:
        """Return the trouble with the batch, None if it was completed."""
        codes = sorted({slug(error.code) for error in (self.errors.data or () if self.errors is not None else ())} - {""})
        return None if self.status == "completed" else f"the batch is {slug(self.status)}" + (f": {', '.join(codes)}" if codes else "")


class BatchPage(BaseModel):
    """A page of the list of batches, the latest first."""

    data: list[BatchState]
    has_more: bool | None = None


class StoredFile(BaseModel):
    """A file at the endpoint."""

    id: str


class LineResponse(BaseModel):
    """The response to one request of a batch."""

    status_code: int
    body: Any = None


class ResultLine(BaseModel):
    """A line of a batch's results."""

    custom_id: str
    response: LineResponse | None = None
    error: BatchError | None = None

    @property
    def trouble(self) -> str | None:
        """Return the reason why there is no answer, None if there is one."""
        if self.completion() is not None:
            return None
        code = slug(self.error.code) if self.error is not None else ""
        return code or (str(self.response.status_code) if self.response is not None else "no answer")

    def completion(self) -> Completion | None:
        """Return the answer, None without one."""
        if self.response is None or self.response.status_code != 200:
            return None
        try:
            return Completion.model_validate(self.response.body)
        except ValidationError:
            return None


def request_line(custom_id: str, body: Mapping[str, Any]) -> bytes:
    """Return one line of a batch's input."""
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": ENDPOINT, "body": body}, ensure_ascii=False).encode() + b"\n"


def read_results(content: bytes) -> Iterator[ResultLine]:
    """Return the valid lines of a file of results; others, as at the end of a file that was cut off, are skipped."""
    for line in content.splitlines():
        try:
            yield ResultLine.model_validate_json(line)
        except ValidationError:
            continue


def not_submitted(why: NotFound | Failure) -> NotSubmitted:
    """Return a refusal to make a batch."""
    if isinstance(why, NotFound):
        return NotSubmitted(f"{why.trouble}; this endpoint has no Batch API: set NIGHTLOG_LLM_MODE=chat", True)
    return NotSubmitted(f"{why.trouble}; no batch was made", why.then == "stop")


class BatchApi:
    """The calls of the Batch API, each retried as a question is. Trouble is returned, not raised."""

    def __init__(self, openai: OpenAI, retries: RetryPolicy):
        self.host = urlsplit(str(openai.base_url)).hostname or "the endpoint"
        self._openai = openai
        self._retries = retries

    def submit(self, name: str, lines: bytes) -> BatchState | NotSubmitted | Failure:
        """Upload the requests and make a batch of them that carries `name`. After a Failure it may have been made or not.

        What makes the batch is sent again only where it was refused for the moment (429): where no answer comes, a second try could make,
        and be charged for, a second batch.
        """
        raw = self._openai.files.with_raw_response
        file = self._read(StoredFile, lambda: raw.create(file=(f"nightlog-{name}.jsonl", lines), purpose="batch").http_response.content)
        if not isinstance(file, StoredFile):
            return not_submitted(file)
        make = self._openai.batches.with_raw_response.create

        def send() -> bytes:
            made = make(completion_window="24h", endpoint=ENDPOINT, input_file_id=file.id, metadata={OURS: name})
            return made.http_response.content

        state = self._read(BatchState, send, repeatable=False)
        if isinstance(state, NotFound) or (isinstance(state, Failure) and state.then in ("stop", "ask less")):
            return not_submitted(state)
        return state

    def status(self, batch_id: str) -> BatchState | NotFound | Failure:
        """Return the state of a batch."""
        return self._read(BatchState, lambda: self._openai.batches.with_raw_response.retrieve(batch_id).http_response.content)

    def find_by_name(self, name: str) -> BatchState | NotFound | Failure | None:
        """Return the batch that carries `name`, None without one; NotFound if the endpoint cannot list its batches."""
        after: dict[str, Any] = {}
        for _ in range(PAGES):
            listed = self._openai.batches.with_raw_response.list
            page = self._read(BatchPage, lambda: listed(limit=100, **after).http_response.content)  # noqa: B023 - called at once
            if not isinstance(page, BatchPage):
                return page
            for state in page.data:
                if (state.metadata or {}).get(OURS) == name:
                    return state
            if not page.has_more or not page.data:
                return None
            after = {"after": page.data[-1].id}
        return None

    def results(self, state: BatchState) -> list[ResultLine] | NotFound | Failure:
        """Return all lines of a finished batch, answers and errors, in any order."""
        found: list[ResultLine] = []
        for file in filter(None, (state.output_file_id, state.error_file_id)):
            content = self._bytes(lambda: self._openai.files.with_raw_response.content(file).http_response.content)  # noqa: B023
            if not isinstance(content, bytes):
                return content
            found.extend(read_results(content))
        return found

    def delete_files(self, state: BatchState) -> None:
        """Have the endpoint delete a batch's files, if it can."""
        for file in filter(None, (state.input_file_id, state.output_file_id, state.error_file_id)):
            self._bytes(lambda: self._openai.files.with_raw_response.delete(file).http_response.content, repeatable=False)  # noqa: B023

    def _read(self, form: type[M], send: Callable[[], bytes], repeatable: bool = True) -> M | NotFound | Failure:
        content = self._bytes(send, repeatable)
        if not isinstance(content, bytes):
            return content
        try:
            return form.model_validate_json(content)
        except ValidationError:
            return Failure(f"{self.host} answered something that is no {form.__name__}", 0, "go on")

    def _bytes(self, send: Callable[[], bytes], repeatable: bool = True) -> bytes | NotFound | Failure:
        try:
            return self._retries.attempts(send, retry=is_transient if repeatable else is_refused_for_now)
        except APIStatusError as error:
            if error.status_code in NO_SUCH_PATH:
                return NotFound(describe(error, self.host))
            return Failure(describe(error, self.host), 0, consequence(error))
        except OpenAIError as error:
            return Failure(describe(error, self.host), 0, consequence(error))
