"""Settings of a run. This module alone reads the environment and nightlog.toml; order: command line > environment > file > default."""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, InitSettingsSource, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from nightlog.errors import SettingsError

Provider = Literal["openai", "recorded", "off"]
Mode = Literal["chat", "batch"]
Profile = Literal["local", "cluster", "gpu"]
WebhookForm = Literal["slack", "teams", "generic"]
WebhookWhen = Literal["always", "news"]
OWN_FIELDS = frozenset({"model", "messages", "response_format", "stream", "stream_options", "n"})  # of a request to the LLM


class Prices(NamedTuple):
    """US dollars for a million tokens, the defaults those of gpt-5-mini; `batch` is the share of it that a request in a batch costs."""

    input: float = 0.25
    cached: float = 0.025
    output: float = 2.0
    batch: float = 0.5

    def of(self, tokens_in: int, tokens_out: int, tokens_cached: int = 0, in_batch: bool = False) -> float:
        """Return the cost of tokens in US dollars; those that were cached are part of `tokens_in`.

        >>> Prices(0.25, 0.025, 2.0).of(1_000_000, 500_000, tokens_cached=800_000)
        1.07
        """
        full = (tokens_in - tokens_cached) * self.input + tokens_cached * self.cached + tokens_out * self.output
        return round(full / 1e6 * (self.batch if in_batch else 1), 9)

    @property
    def are_free(self) -> bool:
        """Return True if no token costs anything."""
        return not (self.input or self.cached or self.output)


PRICES = Prices()
ALERTS_PER_NIGHT = 20
EVERY_SYSTEM = "*"  # the key of `lines_url` for systems that have none of their own
LINES_URL_FIELD = r"\{(ds|system|session|from|to|from_s|to_s|from_ms|to_ms)\}"


class Limits(NamedTuple):
    """The most that may be spent in a period: calls (retries included), tokens (in and out), US dollars. None is no limit."""

    calls: int | None = None
    tokens: int | None = None
    money: float | None = None


class Webhook(NamedTuple):
    """The receiver of each night's message, what it gets, and when. `quiet`: first and last minute of the day, UTC, without a message."""

    url: SecretStr
    hosts: str = ""
    timeout_s: float = 10.0
    form: WebhookForm = "slack"
    when: WebhookWhen = "always"
    least_score: float = 0.0
    reasons: bool = True
    quiet: tuple[int, int] | None = None
    pages_url: str = ""
    alerts: int = ALERTS_PER_NIGHT


class HandOff(NamedTuple):
    """The receivers of a published night besides the lake, all of them off by default; see `nightlog.handoff`."""

    webhook: Webhook | None = None
    exports: Path | None = None
    metrics: Path | None = None
    systems: Path | None = None


class Settings(BaseSettings):
    """The settings of Nightlog. Every field is `NIGHTLOG_<NAME>` in the environment, and `<name>` in nightlog.toml."""

    model_config = SettingsConfigDict(env_prefix="NIGHTLOG_", extra="ignore", frozen=True)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, InitSettingsSource(settings_cls, read_file())

    lake: Path = Field(Path("lake"), description="folder of the tables; a local one, or an address in an object store or in HDFS")
    data: Path | None = Field(
        None,
        description="folder of the log files, local, in an object store or HDFS; default: the sample corpus that ships with Nightlog",
    )
    systems: Path | None = Field(None, description="folder of the user's own system files")
    llm: Provider | None = Field(None, description="default: openai where OPENAI_API_KEY is set, else off")
    llm_model: str = Field("gpt-5-mini", description="the name that requests ask for; part of what verdicts are kept under")
    llm_recorded: Path | None = Field(None, description="recorded verdicts; default: those of the sample corpus")
    llm_items_per_call: int = Field(20, ge=1, le=200, description="at most so many patterns in one request; a slow server gets fewer")
    llm_side_by_side: int = Field(80, ge=1, le=500, description="the same for a request of the second round")
    llm_first_items: int | None = Field(
        None, ge=1, description="patterns in the first request, before the server's speed is known; default: 4, at OpenAI the most"
    )
    llm_mode: Mode = Field("chat", description="chat: answers tonight; batch: the cheaper Batch API, answers are collected by a later run")
    llm_at_once: int = Field(2, ge=1, le=32, description="requests under way at the same time")
    llm_minutes_per_night: float = Field(120.0, ge=0, description="after so many minutes of asking, what is open waits for the next run")
    llm_calls_per_night: int = Field(200, ge=0, description="no more calls than this in one night, retries included")
    llm_tokens_per_night: int | None = Field(None, ge=0, description="in and out together; default: no limit")
    llm_money_per_night: float | None = Field(None, ge=0, description="US dollars by the prices below; default: no limit")
    llm_calls_per_month: int | None = Field(None, ge=0, description="in a calendar month, UTC; default: no limit")
    llm_tokens_per_month: int | None = Field(None, ge=0, description="default: no limit")
    llm_money_per_month: float | None = Field(None, ge=0, description="default: no limit")
    llm_timeout_s: float = Field(120.0, gt=0, description="from a request to the end of its answer")
    llm_answer_tokens: int | None = Field(
        None, ge=16, description="largest answer of one request; default: 1000 and 250 for each pattern, at OpenAI 8000 and 500"
    )
    llm_temperature: float | None = Field(None, ge=0, le=2, description="default: the server's own")
    llm_body: str = Field(
        "", description='more fields of each request, as a JSON object, e.g. `{"chat_template_kwargs": {"enable_thinking": false}}`'
    )
    llm_stream: bool | None = Field(
        None, description="stream answers, so that a time-out keeps the verdicts that came; default: true, at OpenAI false"
    )
    llm_schema_bounds: bool | None = Field(
        None, description="bound number and length of verdicts in the answer's JSON schema; default: true, at OpenAI false"
    )
    llm_hosts: str = Field("", description="hosts that OPENAI_BASE_URL may name, separated by commas; `.example.org` is every host in it")
    llm_plain_http: bool = Field(False, description="let OPENAI_BASE_URL be http:// on another machine than this one")
    llm_price_in: float = Field(PRICES.input, ge=0, description="US dollars for a million prompt tokens")
    llm_price_cached: float = Field(PRICES.cached, ge=0, description="for a million prompt tokens that the provider had cached")
    llm_price_out: float = Field(PRICES.output, ge=0, description="for a million completion tokens")
    llm_price_batch: float = Field(PRICES.batch, ge=0, le=1, description="the share of these prices that a request in a batch costs")
    openai_base_url: str | None = Field(None, validation_alias="OPENAI_BASE_URL", description="the endpoint; default: OpenAI's own")
    openai_api_key: SecretStr | None = Field(None, validation_alias="OPENAI_API_KEY", description="its key")
    master: str = Field("local[*]", description="Spark's master")
    spark_properties: Path | None = Field(
        None, description="file of properties for spark-submit, e.g. conf/yarn.conf; unless a master is set as well, it names the master"
    )
    profile: Profile | None = Field(None, description="how Spark is set (`spark.py`); default: local where the master is, else cluster")
    local_mib: float | None = Field(
        None,
        ge=0,
        description="work on at most so many MiB of text is done by this machine's processes, more by Spark; 0: Spark does all; "
        "default: 256, or text of any size if the master is local",
    )
    driver_memory: str = Field("4g", description="of Spark's driver")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where encoder and small model run")
    bronze_days: int = Field(90, ge=1, description="nights' lines are kept for so many days, by `nightlog maintain`")
    silver_days: int = Field(180, ge=1, description="events, sessions, patterns, routes and scores")
    gold_days: int = Field(730, ge=1, description="anomalies and nights; verdicts, answers and models are kept permanently")
    lock_lease_s: float = Field(
        60.0,
        ge=2,
        le=3600,
        description="in an object store or HDFS, seconds after which the lock of a process that was killed or stopped is free",
    )
    replay_days: int = Field(14, ge=7, le=29, description="earlier versions of tables can be read for so many days; Delta's log ends at 30")

    webhook_url: SecretStr | None = Field(None, description="address that gets a message about each night; default: none")
    webhook_hosts: str = Field("", description="hosts that the webhook may name, separated by commas; `.example.org` is every host in it")
    webhook_timeout_s: float = Field(10.0, gt=0, le=300, description="from the request to the end of its answer")
    webhook_form: WebhookForm = Field("slack", description="slack, and what understands its form; teams: a workflow; generic: plain fields")
    webhook_when: WebhookWhen = Field(
        "always", description="news: only with a new finding, a system that was not published or lacks its input, or unjudged sessions"
    )
    webhook_score: float = Field(0.0, ge=0, le=1, description="findings of a lower probability are not in the message, and no news")
    webhook_reasons: bool = Field(True, description="name each finding's reason, redacted as for the LLM; false: ids and counts alone")
    webhook_quiet: str = Field("", description="hours without a message, UTC, such as `22:00-07:00`; `nightlog notify` sends it afterwards")
    pages_url: str = Field("", description="address under which the lake's folder `reports` is served, for links in messages")
    lines_url: Annotated[dict[str, str], NoDecode] = Field(
        {},
        description="address of a session's lines in your log viewer (Kibana, Loki, Splunk), for links on the pages; "
        "`{ds}`, `{system}`, `{session}`, `{from}`, `{to}` (ISO 8601, UTC), `{from_s}`, `{to_s}`, `{from_ms}`, `{to_ms}` (since 1970) are "
        'replaced; one for all systems, or a JSON object (a table in nightlog.toml) of system names, with `"*"` for the others',
    )
    alerts_per_night: int = Field(
        ALERTS_PER_NIGHT,
        ge=1,
        le=200,
        description="findings in the webhook's message, and incidents on the night's page; it changes no score and no flag",
    )
    exports: Path | None = Field(None, description="folder that gets each night's anomalies as Parquet and CSV; default: none")
    metrics: Path | None = Field(None, description="file that gets the last night's metrics in Prometheus' text format; default: none")

    @field_validator("lake", "data", "systems", "llm_recorded", "exports", "metrics", "spark_properties", mode="before")
    @classmethod
    def is_named(cls, path: object) -> object:
        """Refuse an empty path, which would be the working folder."""
        if path == "":
            raise ValueError("is empty, expected a path")
        return path

    @field_validator("lines_url", mode="before")
    @classmethod
    def read_lines_url(cls, value: object) -> object:
        """Return the templates by system: of a table, of a JSON object, or of one address for all systems. Raises: ValueError."""
        if not isinstance(value, str) or not value.lstrip().startswith("{"):
            return {EVERY_SYSTEM: value} if isinstance(value, str) and value else value or {}
        try:
            return json.loads(value)
        except ValueError:
            raise ValueError("not a JSON object") from None

    @field_validator("lines_url")
    @classmethod
    def check_lines_url(cls, templates: dict[str, str]) -> dict[str, str]:
        """Check that each template is an http or https address with known fields only. Raises: ValueError."""
        for system, template in templates.items():
            if not re.match(r"https?://[^/?#{}\s]+(?:[/?#]|$)", template):
                raise ValueError(f"the address of {system} does not begin with https:// or http:// and a host")
            if unknown := set(re.findall(r"\{([a-z_]+)\}", template)) - set(re.findall(LINES_URL_FIELD, template)):
                raise ValueError(f"the address of {system} has the unknown field `{{{min(unknown)}}}`")
        return templates

    @field_validator("webhook_quiet")
    @classmethod
    def check_quiet(cls, text: str) -> str:
        """Check that the hours are two times of the day. Raises: ValueError."""
        if text and quiet_minutes(text) is None:
            raise ValueError("expected two times of the day, such as 22:00-07:00")
        return text

    @field_validator("llm_body")
    @classmethod
    def check_body(cls, text: str) -> str:
        """Check that the extra fields are a JSON object and replace none that Nightlog sets. Raises: ValueError."""
        try:
            body = json.loads(text or "{}")
        except ValueError:
            raise ValueError("not a JSON object") from None
        if not isinstance(body, dict):
            raise ValueError("not a JSON object")
        if own := sorted(body.keys() & OWN_FIELDS):
            raise ValueError(f"the field `{own[0]}` is set by Nightlog")
        return text

    @property
    def llm_extra(self) -> dict[str, Any]:
        """More fields of each request to the LLM."""
        extra: dict[str, Any] = json.loads(self.llm_body or "{}")
        return extra

    @property
    def hand_off(self) -> HandOff:
        """Return the receivers of a published night besides the lake."""
        receiver = None
        if self.webhook_url is not None:
            receiver = Webhook(
                self.webhook_url,
                self.webhook_hosts,
                self.webhook_timeout_s,
                self.webhook_form,
                self.webhook_when,
                self.webhook_score,
                self.webhook_reasons,
                quiet_minutes(self.webhook_quiet),
                self.pages_url,
                self.alerts_per_night,
            )
        return HandOff(receiver, self.exports, self.metrics, self.systems)

    @property
    def provider(self) -> Provider:
        """Return the judge of proprietary patterns."""
        if self.llm is not None:
            return self.llm
        return "openai" if self.openai_api_key is not None else "off"

    @property
    def prices(self) -> Prices:
        """Return the prices of tokens."""
        return Prices(self.llm_price_in, self.llm_price_cached, self.llm_price_out, self.llm_price_batch)

    @property
    def llm_night(self) -> Limits:
        """Return the limits of one night."""
        return Limits(self.llm_calls_per_night, self.llm_tokens_per_night, self.llm_money_per_night)

    @property
    def llm_month(self) -> Limits:
        """Return the limits of one calendar month."""
        return Limits(self.llm_calls_per_month, self.llm_tokens_per_month, self.llm_money_per_month)

    @property
    def logs(self) -> Path:
        """The folder under which the systems' paths are looked up."""
        return self.data if self.data is not None else self.sample_logs

    @property
    def sample_logs(self) -> Path:
        """The sample corpus that ships with Nightlog."""
        return Path(__file__).parent / "sample" / "logs"

    @property
    def verdicts(self) -> Path:
        """The file that the provider "recorded" answers from."""
        return self.llm_recorded or Path(__file__).parent / "sample" / "verdicts.jsonl"


def quiet_minutes(text: str) -> tuple[int, int] | None:
    """Return two times of the day as minutes since midnight, None if the text has none.

    >>> quiet_minutes("22:00-07:30"), quiet_minutes("")
    ((1320, 450), None)
    """
    found = re.fullmatch(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)", text)
    if found is None:
        return None
    hours = [int(each) for each in found.groups()]
    return hours[0] * 60 + hours[1], hours[2] * 60 + hours[3]


def read_settings() -> Settings:
    """Return the settings of environment and file. Raises SettingsError, with each one that is wrong."""
    try:
        return Settings()
    except ValidationError as error:
        raise SettingsError([(where(each["loc"]), each["msg"]) for each in error.errors(include_input=False)]) from None


def settings_from(**given: object) -> Settings:
    """Return the settings, with options of a command put first if they are given. Raises ConfigError."""
    return read_settings().model_copy(update={name: value for name, value in given.items() if value is not None})


def where(place: tuple[str | int, ...]) -> str:
    """Return the place of a wrong value: its environment variable, or its key and the file."""
    name, path = variable(place), settings_file()
    return name if name in os.environ or path is None else f"{name.removeprefix('NIGHTLOG_').lower()} in {path}"


def settings_file() -> Path | None:
    """Return the file that holds settings: the one that NIGHTLOG_CONFIG names, else nightlog.toml in the working folder if it is there."""
    named = os.environ.get("NIGHTLOG_CONFIG")
    here = Path(named or "nightlog.toml")
    return here.absolute() if named or here.is_file() else None


def read_file() -> dict[str, Any]:
    """Return the settings of the file, by the names that the environment has for two of them; a relative path begins at the file.

    Raises SettingsError if the file cannot be read, has an unknown key, or holds a secret.
    """
    path = settings_file()
    if path is None:
        return {}
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError([(str(path), f"cannot be read as TOML: {error}")]) from None
    fields = Settings.model_fields
    wrong = []
    for key in found:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, 1)
            wrong.append((f"{key} in {path}", f"no such setting{f'; did you mean `{near[0]}`?' if near else ''}"))
        elif is_secret(key):
            wrong.append((f"{key} in {path}", f"a secret; set {variable_of(key)} in the environment instead"))
    if wrong:
        raise SettingsError(wrong)
    return {str(fields[key].validation_alias or key): from_folder(path.parent, key, value) for key, value in found.items()}


def from_folder(folder: Path, key: str, value: Any) -> Any:
    """Return a value of the file; a relative path is taken from the file's folder."""
    is_path = Path in (Settings.model_fields[key].annotation, *getattr(Settings.model_fields[key].annotation, "__args__", ()))
    return str(folder / value) if is_path and isinstance(value, str) and value and "://" not in value else value


def is_secret(name: str) -> bool:
    """Return True if a field holds a secret."""
    annotation = Settings.model_fields[name].annotation
    return SecretStr in (annotation, *getattr(annotation, "__args__", ()))


def variable_of(name: str) -> str:
    """Return the environment variable of a field.

    >>> variable_of("llm_mode"), variable_of("openai_base_url")
    ('NIGHTLOG_LLM_MODE', 'OPENAI_BASE_URL')
    """
    return str(Settings.model_fields[name].validation_alias or variable((name,)))


def sources() -> list[tuple[str, str, str]]:
    """Return (field, value, source) of each setting that the environment or the file gives; a secret's value is left out."""
    settings, path = read_settings(), settings_file()
    in_file = tomllib.loads(path.read_text(encoding="utf-8")) if path is not None else {}
    found = []
    for name in Settings.model_fields:
        source = "environment" if variable_of(name) in os.environ else str(path) if name in in_file else None
        if source is not None:
            found.append((name, "(not shown)" if is_secret(name) else str(getattr(settings, name)), source))
    return found


def file_text() -> str:
    """Return a settings file that says and changes nothing: each setting with its meaning and default, commented out."""
    parts = [
        "# Settings of Nightlog. The environment goes before this file, options of a command before both. A relative path begins at this",
        "# file's folder. Secrets belong into the environment: OPENAI_API_KEY, NIGHTLOG_WEBHOOK_URL.",
        "",
    ]
    for name, field in Settings.model_fields.items():
        if not is_secret(name):
            default = field.default if not isinstance(field.default, Path) else str(field.default)
            parts += [f"# {field.description}", f"# {name} = {json.dumps(default) if default is not None else ''}".rstrip(), ""]
    return "\n".join(parts)


def variable(place: tuple[str | int, ...]) -> str:
    """Return the environment variable of a field.

    >>> variable(("llm_mode",)), variable(("OPENAI_BASE_URL",))
    ('NIGHTLOG_LLM_MODE', 'OPENAI_BASE_URL')
    """
    name = str(place[0]) if place else "settings"
    return name if name.isupper() or not place else f"NIGHTLOG_{name.upper()}"


def lineage_namespace() -> str | None:
    """Return the namespace of jobs in OpenLineage's events; None if no transport is configured, by the conventions of its client."""
    files = (Path("openlineage.yml"), Path.home() / ".openlineage" / "openlineage.yml")
    named = any(name in ("OPENLINEAGE_URL", "OPENLINEAGE_CONFIG") or name.startswith("OPENLINEAGE__TRANSPORT") for name in os.environ)
    is_disabled = os.environ.get("OPENLINEAGE_DISABLED", "").strip().lower() == "true"
    return os.environ.get("OPENLINEAGE_NAMESPACE", "nightlog") if (named or any(map(Path.is_file, files))) and not is_disabled else None


def java_home() -> str | None:
    """Return the folder of Java for Spark, None if Spark takes the one on the path."""
    return os.environ.get("JAVA_HOME")
