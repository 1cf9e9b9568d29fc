"""What a system is: one TOML file, checked when it is read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from nightlog.systems.regexes import checked

GROUP = re.compile(r"\(\?P<(\w+)>")
WHOLE_LINE = r"(?P<message>.*)"
# The part of JSON paths that Spark and the trial of a new system read alike.
JSON_PATH = re.compile(r"\$(?:\.[\w-]+|\['[^'\]]+'\]|\[\d+\])+")
LONGEST_RECORD = 1000  # lines; what follows belongs to no record


class Part(BaseModel):
    """A section of a system file. Unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Input(Part):
    """Where the day's files lie: a path under the data folder with `{ds}`, globs allowed; plain, .gz or .xz.

    Files whose names carry no `{ds}` belong to the one night named in `delivered`.
    """

    path: str
    delivered: date | None = None

    @model_validator(mode="after")
    def one_night(self) -> Self:
        if ("{ds}" in self.path) == (self.delivered is not None):
            raise ValueError("give either a path with {ds}, or a path without it and `delivered = YYYY-MM-DD`")
        return self


class Record(Part):
    """Where records span lines: a line that begins with `start` begins a record, and what follows continues it.

    The record's first `lines` lines that are not blank make its text, joined by line feeds; `message` may span them. In the lake the
    lines stay as delivered, and the record has the number of its first line. Lines before the first start, and those after
    LONGEST_RECORD lines, stand alone.
    """

    start: str
    lines: int = Field(50, ge=1, le=LONGEST_RECORD)
    _compiles = field_validator("start")(checked)


class Header(Part):
    """How a record is split into fields, of which `message` is what gets parsed.

    `pattern` is a regular expression with named groups that matches the whole record. With a `kind` other than "pattern", its group
    `message` holds named values: "json" (an object), "logfmt" (key=value, key="value") or "export" (journald's: KEY=value on
    a line each). Then `keys` says under which key each field is; in JSON a key that begins with $ is a path such as $.http.status.
    `message` may be a list of keys: the first one's value and, where present, key=value of the others.
    """

    kind: Literal["pattern", "json", "logfmt", "export"] = "pattern"
    pattern: str = WHOLE_LINE
    keys: Mapping[str, str | tuple[str, ...]] = {}
    _compiles = field_validator("pattern")(checked)

    @model_validator(mode="after")
    def has_message(self) -> Self:
        if "message" not in self.groups:
            raise ValueError("the header pattern needs a group (?P<message>…)")
        if (self.kind == "pattern") == bool(self.keys):
            raise ValueError("`keys` belong to the kinds json, logfmt and export, and these need them")
        if self.keys and not self.keys.get("message"):
            raise ValueError('`keys` need the key of the message, e.g. message = "msg"')
        for name, keys in self.keys.items():
            if not re.fullmatch(r"[A-Za-z_]\w*", name) or (name in self.groups and name != "message"):
                raise ValueError(f"`keys.{name}`: a field's name is a word, and no group of the pattern has it")
            if name != "message" and not isinstance(keys, str):
                raise ValueError(f"`keys.{name}`: only `message` may be a list of keys")
            for key in [keys] if isinstance(keys, str) else keys:
                if self.kind == "json" and key.startswith("$") and not JSON_PATH.fullmatch(key):
                    raise ValueError(f"`keys.{name}`: not a path such as $.http.status or $['log.level']: {key}")
        return self

    @property
    def groups(self) -> dict[str, int]:
        """Name → number of each group of the pattern."""
        return dict(re.compile(self.pattern).groupindex)

    @property
    def fields(self) -> list[str]:
        """The names of all fields."""
        return list(dict.fromkeys([*self.groups, *self.keys]))

    @property
    def message_keys(self) -> tuple[str, ...]:
        """The keys whose values make the message."""
        keys = self.keys.get("message", ())
        return (keys,) if isinstance(keys, str) else keys


class Timestamp(Part):
    """`value` is put together from header fields, e.g. "{date} {time}" (`{ds}` is the night's day, `{ds_year}` its year); `format` is a
    Spark datetime pattern, or "epoch" for seconds since 1970 ("epoch_ms", "epoch_us", "epoch_ns": for thousandths, …)."""

    value: str
    format: str
    timezone: str = "UTC"


class Session(Part):
    """How lines become sessions: by an id found in a field, by a field itself, or by time window.

    With kind "id", the pattern's first group (or the whole match) is the id; a line with several ids belongs to
    each of these sessions. A session with an id that begins in the last `settle_minutes` of a day is judged with the next night, when more
    than its first moments have been seen.
    """

    kind: Literal["id", "field", "window"]
    pattern: str | None = None
    field: str = "message"
    window_minutes: int = Field(60, ge=1, le=24 * 60)
    lookback_days: int = Field(1, ge=0, le=31)
    settle_minutes: int = Field(10, ge=0, le=12 * 60)
    _compiles = field_validator("pattern")(lambda p: p if p is None else checked(p))

    @model_validator(mode="after")
    def complete(self) -> Self:
        if (self.kind == "id") != (self.pattern is not None):
            raise ValueError('`pattern` belongs to kind = "id", and that kind needs it')
        return self


class Mask(Part):
    """Text that the pattern matches is replaced by `<NAME>` before templates are mined.

    With `word = true` it is replaced by NAME alone, a word like any other: messages that differ in it get templates of their own.
    """

    name: str = Field(pattern=r"^[A-Z_]+$")
    pattern: str
    word: bool = False
    _compiles = field_validator("pattern")(checked)

    @property
    def placeholder(self) -> str:
        """What stands in the text's place."""
        return self.name if self.word else f"<{self.name}>"


class Templates(Part):
    """How messages are merged into templates, and the bounds of it.

    `similarity` is the share of words that must agree; masks are not words, and two tokens that both look like values (digits,
    paths, addresses) may differ freely. Where one place holds `values` different tokens in messages that are otherwise the
    same, it is a variable.
    """

    similarity: float = Field(0.9, gt=0, le=1)
    values: int = Field(8, ge=2)
    depth: int = Field(4, ge=3, le=10)
    max_children: int = Field(100, ge=2)
    cap: int = Field(2000, ge=1, description="templates of one token count; what comes after goes to a catch-all")
    messages: int = Field(200_000, ge=1, description="distinct masked messages that are mined; what comes after goes to a catch-all")


class Labels(Part):
    """Known truth: a CSV file (session_id,label), or the first thing on each line.

    With `pattern`, what it matches at the start of a line is cut off when the file is read; its group `label` goes to
    `bronze.labels` and nowhere else; a line is normal if its label is in `normal`.
    """

    file: str | None = None
    pattern: str | None = None
    normal: tuple[str, ...] = ("-",)
    _compiles = field_validator("pattern")(lambda p: p if p is None else checked(p))

    @model_validator(mode="after")
    def one_kind(self) -> Self:
        if (self.file is None) == (self.pattern is None):
            raise ValueError("give either `file` or `pattern`")
        if self.pattern is not None and "label" not in re.compile(self.pattern).groupindex:
            raise ValueError("the label pattern needs a group (?P<label>…)")
        return self


class LLM(Part):
    """May templates of this system go to the LLM, what its operators want it to know, and which names do not leave.

    Secrets, e-mail and network addresses never leave; `redact` takes out users' and hosts' names too.
    """

    allowed: bool = True
    redact: tuple[Literal["user", "host"], ...] = ()
    policy: str = ""


class Signals(Part):
    """What else to say of a night, by the system's own history, once it is long enough: see `nightlog.signals`.

    `new_template`: never logged before; `rate`: far more or less often than on nights alike; `silence`: a template that each night logs,
    or the whole system, is missing; `variation`: far more wordings of a template than usual. On the page they stand below the anomalies,
    with `first` above them.
    """

    new_template: bool = True
    rate: bool = True
    silence: bool = True
    variation: bool = True
    first: bool = False

    @property
    def any(self) -> bool:
        """Whether any of them is wanted."""
        return self.new_template or self.rate or self.silence or self.variation


DEFAULT_MASKS = (
    Mask(name="UUID", pattern=r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"),
    Mask(name="IP", pattern=r"/?(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?![\d.])(?::\d+)?"),
    Mask(name="MAC", pattern=r"\b(?:[0-9a-fA-F]{2}[:-]){5}[0-9a-fA-F]{2}\b"),
    Mask(name="HEX", pattern=r"\b(?:0x[0-9a-fA-F]+|(?=\d*[a-fA-F])(?=[a-fA-F]*\d)[0-9a-fA-F]{8,})\b"),
    Mask(name="PATH", pattern=r"(?<![\w/<>])/(?:[^\s/,;:'\"()\[\]{}]+/)+[^\s/,;:'\"()\[\]{}]*"),
    Mask(name="NUM", pattern=r"[-+]?\d+(?:\.\d+)*"),
)


class System(Part):
    """One system: how its logs are read, how sessions are made, what is known, and what may leave the machine.

    `collaboration`: in "generallog" the LLM judges what is proprietary, every night; in "fusionlog" its verdicts are distilled into a small
    model of the system's own, which serves as soon as it passes its gate; "auto" starts as the first and goes over to the second once
    distillation covers nearly all of the system's sessions.

    `detector` is the small model: "gru" (GeneralLog, FusionLog), or "metaproto", a prototypical network that `nightlog train` adapts to the
    system's own unlabelled patterns and analysts' answers; it is never distilled, so `collaboration` says nothing about it.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]*$")
    description: str = ""
    role: Literal["source", "target"]
    collaboration: Literal["auto", "generallog", "fusionlog"] = "auto"
    detector: Literal["gru", "metaproto"] = "gru"
    input: Input
    record: Record | None = None
    header: Header = Header()
    timestamp: Timestamp | None = None
    session: Session
    masks: tuple[Mask, ...] = ()
    default_masks: bool = True
    templates: Templates = Templates()
    labels: Labels | None = None
    llm: LLM = LLM()
    signals: Signals = Signals()

    @model_validator(mode="after")
    def fields_exist(self) -> Self:
        known = {*self.header.fields, "ds", "ds_year"}
        used = {self.session.field} if self.session.kind != "window" else set()
        used |= set(re.findall(r"\{(\w+)\}", self.timestamp.value)) if self.timestamp else set()
        if missing := used - known:
            raise ValueError(f"no such header field: {', '.join(sorted(missing))}; the header has {', '.join(sorted(known))}")
        if self.session.kind == "window" and self.timestamp is None:
            raise ValueError("sessions by time window need a [timestamp]")
        if self.role == "source" and self.labels is None:
            raise ValueError("a source teaches by its labels: give [labels], or make it a target")
        return self

    @property
    def settle_minutes(self) -> int:
        """How long before midnight a session may begin and still be judged on that night; 0 where time or look-back would not show it."""
        session = self.session
        return session.settle_minutes if session.kind == "id" and session.lookback_days and self.timestamp is not None else 0

    @property
    def all_masks(self) -> tuple[Mask, ...]:
        """The system's own masks first, then the typed ones that every system needs."""
        return self.masks + (DEFAULT_MASKS if self.default_masks else ())
