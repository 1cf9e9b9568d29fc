"""The file of a system: TOML, checked when it is read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from nightlog.systems.paths import names_day
from nightlog.systems.regexes import check_pattern
from nightlog.systems.time_formats import EPOCHS, compile_format

GROUP = re.compile(r"\(\?P<(\w+)>")
WHOLE_LINE = r"(?P<message>.*)"
# The part of JSON paths that Spark and the trial of a new system read alike.
JSON_PATH = re.compile(r"\$(?:\.[\w-]+|\['[^'\]]+'\]|\[\d+\])+")
DAY_FIELDS = frozenset({"ds", "ds_year"})  # of the night, not of a line
LONGEST_RECORD = 1000  # lines; what follows belongs to no record


class Section(BaseModel):
    """A section of a system file. Unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Input(Section):
    """The day's files: a path under the data folder that names the day, globs allowed. `**` is any number of folders.

    Placeholders of the path: `{ds}` (2026-03-04), `{ds_nodash}` (20260304), `{year}`, `{month}`, `{day}`, and `{hour}` for any hour of the
    day. Files are plain, .gz, .xz, .bz2, .zst or .zip (with one member or several).

    Files whose names carry no day belong to the one night named in `delivered`. Hosts are distinguished by the text that the wildcards of
    the path stand for: files of one host with the same content, or with the first part of it, are read once.
    """

    path: str = Field(min_length=1, description="relative to the data folder, with `{ds}` or other placeholders of the day")
    delivered: date | None = Field(None, description="the night of a delivery without days in its names")

    @field_validator("path")
    @classmethod
    def is_relative(cls, path: str) -> str:
        if path.startswith(("/", "~")) or re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", path):
            raise ValueError(f"{path} is not relative: give the path under the data folder, and name that folder by NIGHTLOG_DATA (--data)")
        return path

    @model_validator(mode="after")
    def one_night(self) -> Self:
        if names_day(self.path) == (self.delivered is not None):
            raise ValueError("give either a path with {ds}, or a path without it and `delivered = YYYY-MM-DD`")
        return self


class Record(Section):
    """Records that span lines: a line that begins with `start` begins a record, and what follows continues it.

    The record's first `lines` lines that are not blank make its text, joined by line feeds; `message` may span them. In the lake the
    lines stay as delivered, and the record has the number of its first line. Lines before the first start, and those after
    LONGEST_RECORD lines, stand alone.
    """

    start: str = Field(description="regular expression that the first line of a record begins with")
    lines: int = Field(50, ge=1, le=LONGEST_RECORD, description="so many of a record's lines make its text")
    _compiles = field_validator("start")(check_pattern)


class Header(Section):
    """The split of a record into fields, of which `message` is parsed.

    `pattern` is a regular expression with named groups that matches the whole record. What a group `message_end` matches, such as a
    request's status, is appended to the message. With a `kind` other than "pattern", its group
    `message` holds named values: "json" (an object), "logfmt" (key=value, key="value") or "export" (journald's: KEY=value on
    a line each). Then `keys` says under which key each field is; in JSON a key that begins with $ is a path such as $.http.status.
    `message` may be a list of keys: the first one's value and, where present, key=value of the others.
    """

    kind: Literal["pattern", "json", "logfmt", "export"] = Field("pattern", description="what the message group holds")
    pattern: str = Field(WHOLE_LINE, description="of the whole record; its named groups are the fields")
    keys: Mapping[str, str | tuple[str, ...]] = Field({}, description="field → key of the named values, as `[header.keys]`")
    _compiles = field_validator("pattern")(check_pattern)

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


class Timestamp(Section):
    """`value` is put together from header fields, e.g. "{date} {time}" (`{ds}` is the night's day, `{ds_year}` its year); `format` is a
    Spark datetime pattern, or "epoch" for seconds since 1970 ("epoch_ms", "epoch_us", "epoch_ns": for thousandths, …)."""

    value: str = Field(description="put together from header fields")
    format: str = Field(description="Spark's datetime pattern, or epoch, epoch_ms, epoch_us, epoch_ns")
    timezone: str = Field("UTC", description="of stamps that name none")

    @field_validator("format")
    @classmethod
    def is_known(cls, form: str) -> str:
        if form not in EPOCHS:
            compile_format(form)
        return form


class Variant(Section):
    """Another form of the system's records: what the main header does not match is tried with these, in their order."""

    header: Header
    timestamp: Timestamp | None = None


class Session(Section):
    """The sessions of lines: by an id found in a field, by a field itself, or by time window.

    With kind "id", the pattern's first group (or the whole match) is the id; a line with several ids belongs to
    each of these sessions. A session with an id that begins in the last `settle_minutes` of a day waits for the next night, when more
    than its first moments have been seen. If that night does not come, the first later one judges it.
    """

    kind: Literal["id", "field", "window"] = Field(description="what makes a session")
    pattern: str | None = Field(None, description='of the id; with kind = "id" alone, and needed there')
    field: str = Field("message", description="the header field that is looked at")
    window_minutes: int = Field(60, ge=1, le=24 * 60, description='length of a session of kind = "window"')
    lookback_days: int = Field(1, ge=0, le=31, description="a session is judged on its events of so many days before, too")
    settle_minutes: int = Field(10, ge=0, le=12 * 60, description="what begins so shortly before midnight waits for the next night")
    _compiles = field_validator("pattern")(lambda p: p if p is None else check_pattern(p))

    @model_validator(mode="after")
    def complete(self) -> Self:
        if (self.kind == "id") != (self.pattern is not None):
            raise ValueError('`pattern` belongs to kind = "id", and that kind needs it')
        return self


class Mask(Section):
    """Text that the pattern matches is replaced by `<NAME>` before templates are mined.

    With `word = true` it is replaced by NAME alone, a word like any other: messages that differ in it get templates of their own.
    """

    name: str = Field(pattern=r"^[A-Z_]+$", description="capital letters and _: what stands in the text's place")
    pattern: str = Field(description="regular expression of the text that is masked")
    word: bool = Field(False, description="let it tell templates apart")
    _compiles = field_validator("pattern")(check_pattern)

    @property
    def placeholder(self) -> str:
        """Return the placeholder of the masked text."""
        return self.name if self.word else f"<{self.name}>"


class Templates(Section):
    """The merging of messages into templates, and its bounds.

    `similarity` is the share of words that must agree; masks are not words, and two tokens that both look like values (digits,
    paths, addresses) may differ freely. Where one place holds `values` different tokens in messages that are otherwise the
    same, it is a variable.
    """

    version: Literal[1, 2] = Field(2, description="rules of masks and merging; 1 keeps the templates of systems that were set up before 2")
    similarity: float = Field(1.0, gt=0, le=1, description="the share of words that must agree")
    values: int = Field(8, ge=2, description="so many different tokens make a place a variable")
    depth: int = Field(4, ge=3, le=10, description="Drain's depth")
    max_children: int = Field(100, ge=2, description="Drain's bound on the branches of a node")
    cap: int = Field(2000, ge=1, description="templates of one token count; what comes after goes to a catch-all")
    messages: int = Field(200_000, ge=1, description="distinct masked messages that are mined; what comes after goes to a catch-all")


class Labels(Section):
    """Known truth: a CSV file (session_id,label), or the first thing on each line.

    With `pattern`, what it matches at the start of a line is cut off when the file is read; its group `label` goes to
    `bronze.labels` and nowhere else; a line is normal if its label is in `normal`.
    """

    file: str | None = Field(None, description="CSV with session_id and label (1 anomalous, 0 normal), relative to the data folder")
    pattern: str | None = Field(None, description="of what is cut off each line, with a group `label`")
    normal: tuple[str, ...] = Field(("-",), description="labels of normal lines")
    _compiles = field_validator("pattern")(lambda p: p if p is None else check_pattern(p))

    @model_validator(mode="after")
    def one_kind(self) -> Self:
        if (self.file is None) == (self.pattern is None):
            raise ValueError("give either `file` or `pattern`")
        if self.pattern is not None and "label" not in re.compile(self.pattern).groupindex:
            raise ValueError("the label pattern needs a group (?P<label>…)")
        return self


class LLM(Section):
    """The LLM's part for this system: may it be asked, is it meant to judge, what should it know, and which names do not leave.

    With `wanted = false` no LLM is meant to judge: sessions that nothing else judges are shown as unjudged, and the night
    is complete all the same. Without it such a night is incomplete (exit code 40).

    Secrets, e-mail and network addresses never leave; `redact` takes out users' and hosts' names too.
    """

    allowed: bool = Field(True, description="may templates of this system be sent at all")
    wanted: bool = Field(True, description="is an LLM meant to judge; false: a night without it is complete")
    redact: tuple[Literal["user", "host"], ...] = Field((), description="names that are taken out as well")
    policy: str = Field("", description="free text of the operators for the prompt: what is daily life, what they want to hear of")

    @property
    def judges(self) -> bool:
        """True if an LLM is to judge this system's proprietary patterns."""
        return self.allowed and self.wanted


Measured = Literal[
    "unparsed", "returns", "swallowed", "continuation", "hosts", "lines", "bytes", "files", "new_templates", "sessions", "anomalies"
]


class Gates(Section):
    """When a night is held back until somebody approves it (`nightlog approve`).

    Three limits hold from the first night: `unparsed_share` of the lines that do not match the header, `swallowed_share` of the lines that
    became part of a record but do not look like its continuation (1: they may look like anything), and `returns_share`, carriage returns
    inside of lines per line. A host that delivered lines on the last three nights is expected.

    The other measures are compared with the published nights of the `history_days` before, if these are at least `least_nights`. A night
    may lie within `deviations` robust standard deviations of their median, or as far as two of them went, and beyond that by:
    `unparsed_rise`, `continuation_rise` (shares of lines), `new_templates_rise` (share of the night's templates), `anomalies_rise` (share
    of sessions), `lines_factor` (times fewer or more lines, bytes or files), `sessions_factor`. Rises of fewer than `least` lines,
    templates, sessions or anomalies are no drift; there is no such limit for what is missing.

    A measure in `hold` holds the night back, except more lines, bytes or files than usual. The others are warnings.
    """

    unparsed_share: float = Field(0.2, ge=0, le=1)
    swallowed_share: float = Field(0.2, ge=0, le=1)
    returns_share: float = Field(0.2, ge=0)
    history_days: int = Field(28, ge=1, le=366)
    least_nights: int = Field(7, ge=3)
    deviations: float = Field(4.0, gt=0)
    least: int = Field(20, ge=1)
    unparsed_rise: float = Field(0.05, gt=0, le=1)
    continuation_rise: float = Field(0.3, gt=0, le=1)
    lines_factor: float = Field(3.0, gt=1)
    new_templates_rise: float = Field(0.5, gt=0, le=1)
    sessions_factor: float = Field(3.0, gt=1)
    anomalies_rise: float = Field(0.25, gt=0, le=1)
    hold: tuple[Measured, ...] = ("unparsed", "returns", "swallowed", "hosts", "lines", "new_templates", "sessions", "anomalies")


class Signals(Section):
    """Signals of a night by the system's own history, once it is long enough: see `nightlog.signals`.

    `new_template`: never logged before; `rate`: far more or less often than on nights alike; `silence`: a template that each night logs,
    or the whole system, is missing; `value`: a number (what the mask NUM takes out) far outside of the range it had on other nights;
    `variation`: far more wordings of a template than usual; `outside_sessions`: severe records that no judged session has, from the first
    night on. On the page they stand below the anomalies, with `first` above them.
    """

    new_template: bool = True
    rate: bool = True
    silence: bool = True
    value: bool = True
    variation: bool = True
    outside_sessions: bool = True
    first: bool = False

    @property
    def any(self) -> bool:
        """Return True if any of them is wanted."""
        return self.new_template or self.rate or self.silence or self.value or self.variation or self.outside_sessions


UUID = Mask(name="UUID", pattern=r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
ADDRESS = r"/?(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?![\d.])(?::\d+)?"
# What a port does not follow: `Cart.java:10` is a place in a source file.
SOURCES = "java|py|go|c|cc|cpp|h|rs|js|ts|rb|php|kt|scala|cs|pl|sh|erl|ex|lua|swift"
MONTHS = "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec"
TYPED = (
    Mask(name="MAC", pattern=r"\b(?:[0-9a-fA-F]{2}[:-]){5}[0-9a-fA-F]{2}\b"),
    Mask(name="HEX", pattern=r"\b(?:0x[0-9a-fA-F]+|(?=\d*[a-fA-F])(?=[a-fA-F]*\d)[0-9a-fA-F]{8,})\b"),
    Mask(name="PATH", pattern=r"(?<![\w/<>])/(?:[^\s/,;:'\"()\[\]{}]+/)+[^\s/,;:'\"()\[\]{}]*"),
    Mask(name="NUM", pattern=r"[-+]?\d+(?:\.\d+)*"),
)
# By the version of [templates].
DEFAULT_MASKS_OF = {
    1: (UUID, Mask(name="IP", pattern=ADDRESS), *TYPED),
    2: (
        UUID,
        Mask(
            name="TIME",
            pattern=rf"\b(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,? )?(?:{MONTHS})[a-z]* +\d{{1,2}},? (?:\d{{4}} )?"
            r"\d{1,2}:\d{2}:\d{2}(?:\.\d+)?(?: [A-Z]{3,4}\b)?(?: \d{4}\b)?",
        ),
        Mask(name="IP", pattern=rf"{ADDRESS}(?:, ?{ADDRESS})*"),
        Mask(name="HOST", pattern=rf"\b(?:[A-Za-z0-9_-]+\.)+(?!(?:{SOURCES}):)[A-Za-z]{{2,}}:\d{{1,5}}\b"),
        Mask(name="USER", pattern=r"(?<=\bfor user )[\w.@\\-]+"),
        *TYPED,
    ),
}
DEFAULT_MASKS = DEFAULT_MASKS_OF[2]


def check_stamp(stamp: Timestamp | None, fields: set[str], where: str = "") -> None:
    """Raise ValueError if a stamp's value names a field that a header lacks, or no field of a line at all."""
    if stamp is None:
        return
    used = set(re.findall(r"\{(\w+)\}", stamp.value))
    if missing := used - fields - DAY_FIELDS:
        known = ", ".join(sorted(fields | DAY_FIELDS))
        raise ValueError(f"{where}no such header field: {', '.join(sorted(missing))}; the header has {known}")
    if not used & fields:
        raise ValueError(f"{where}`timestamp.value` = {stamp.value!r} has no field of a line; without times of lines leave [timestamp] out")


class System(Section):
    """One system: how its logs are read, how sessions are made, what is known, and what may leave the machine.

    `collaboration`: in "generallog" the LLM judges what is proprietary, every night; in "fusionlog" its verdicts are distilled into a small
    model of the system's own, which serves as soon as it passes its gate; "auto" starts as the first and goes over to the second once
    distillation covers nearly all of the system's sessions.

    `detector` is the small model: "gru" (GeneralLog, FusionLog), or "metaproto", a prototypical network that `nightlog train` adapts to the
    system's own unlabelled patterns and analysts' answers; it is never distilled, so `collaboration` says nothing about it.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]*$", description="small letters, digits, - and _; the tables' `system`")
    description: str = Field("", description="for people")
    role: Literal["source", "target"] = Field(description="a source teaches by its labels, a target is judged")
    collaboration: Literal["auto", "generallog", "fusionlog"] = Field("auto", description="how LLM and small model share the work")
    detector: Literal["gru", "metaproto"] = Field("gru", description="the small model")
    input: Input
    record: Record | None = None
    header: Header = Header()
    timestamp: Timestamp | None = None
    variants: tuple[Variant, ...] = Field((), description="other forms of records in the same files")
    session: Session
    masks: tuple[Mask, ...] = ()
    default_masks: bool = Field(True, description="the masks that every system has, see below")
    templates: Templates = Templates()
    labels: Labels | None = None
    llm: LLM = LLM()
    gates: Gates = Gates()
    signals: Signals = Signals()

    @model_validator(mode="after")
    def fields_exist(self) -> Self:
        fields = set(self.header.fields)
        if self.session.kind != "window" and self.session.field not in {*fields, *DAY_FIELDS}:
            raise ValueError(f"no such header field: {self.session.field}; the header has {', '.join(sorted(fields | DAY_FIELDS))}")
        check_stamp(self.timestamp, fields)
        if self.session.kind == "window" and self.timestamp is None:
            raise ValueError("sessions by time window need a [timestamp]")
        if self.role == "source" and self.labels is None:
            raise ValueError("a source teaches by its labels: give [labels], or make it a target")
        return self

    @model_validator(mode="after")
    def variants_have_the_session(self) -> Self:
        for number, variant in enumerate(self.variants, 1):
            fields = set(variant.header.fields)
            if self.session.kind != "window" and self.session.field not in fields:
                raise ValueError(f"variants[{number}]: its header has no field `{self.session.field}`, which [session] looks at")
            if self.session.kind == "window" and variant.timestamp is None:
                raise ValueError(f"variants[{number}]: sessions by time window need its timestamp, too")
            check_stamp(variant.timestamp, fields, f"variants[{number}]: ")
        return self

    def forms(self) -> tuple[System, ...]:
        """Return the system once for each form of its records, the main form first."""
        alone = self.model_copy(update={"variants": ()})
        others = (alone.model_copy(update={"header": each.header, "timestamp": each.timestamp}) for each in self.variants)
        return (alone, *others)

    @property
    def settle_minutes(self) -> int:
        """Minutes before midnight: a session that begins in them waits for the next night. 0 if no next night comes or shows more."""
        session = self.session
        has_next = self.timestamp is not None and self.input.delivered is None
        return session.settle_minutes if session.kind == "id" and session.lookback_days and has_next else 0

    @property
    def all_masks(self) -> tuple[Mask, ...]:
        """The system's own masks first, then the typed ones that every system needs."""
        return self.masks + (DEFAULT_MASKS_OF[self.templates.version] if self.default_masks else ())
