"""The LLM's endpoint: its address and key; with `online`, its models and its answer to one synthetic question. No log text is sent."""

from __future__ import annotations

import math
from collections.abc import Iterator
from urllib.parse import urlsplit

from nightlog.doctor import CheckResult, State, error, ok, warning
from nightlog.errors import ConfigError
from nightlog.lake.lake import Lake
from nightlog.lake.tables import NIGHTS
from nightlog.settings import Settings
from nightlog.systems.catalog import nearest

AREA = "llm"
LIST_TIMEOUT_S = 10.0
SHOWN_MODELS = 5
PATTERNS_UNKNOWN = 100  # for an estimate without an earlier night


def endpoint(settings: Settings, online: bool, lake: Lake | None = None) -> Iterator[CheckResult]:
    """Check the endpoint that tonight would ask. Args: lake, for the number of patterns that a night asks about."""
    if settings.provider == "off":
        yield ok(AREA, "off: history and trained models judge alone", "NIGHTLOG_LLM")
        return
    if settings.provider == "recorded":
        source = "answers come from a file of recorded verdicts"
        yield (
            ok(AREA, source, str(settings.verdicts))
            if settings.verdicts.is_file()
            else error(AREA, f"{source}, and it is not there", str(settings.verdicts), "name it: NIGHTLOG_LLM_RECORDED")
        )
        return
    from nightlog.llm.connection import checked_url, is_loopback

    try:
        url = checked_url(settings)
    except ConfigError as trouble:
        yield error(AREA, str(trouble), "OPENAI_BASE_URL", "correct the address or the list of hosts")
        return
    yield ok(AREA, f"{settings.llm_model} would be asked", url)
    if not settings.llm_hosts:
        yield warning(
            AREA, "any host may be named as the endpoint", "NIGHTLOG_LLM_HOSTS", "list the hosts that may be asked, see docs/security.md"
        )
    if settings.openai_api_key is None or not settings.openai_api_key.get_secret_value().strip():
        if is_loopback(urlsplit(url).hostname or ""):
            yield ok(AREA, "no key is set; a server on this machine usually needs none", "OPENAI_API_KEY")
        else:
            grade = warning if settings.openai_base_url else error
            yield grade(AREA, "no key is set", "OPENAI_API_KEY", "set it, unless the endpoint needs none; or NIGHTLOG_LLM=off")
    if online:
        models = listed_models(settings, url)
        yield models
        if models.state is not State.ERROR:
            yield from asked_once(settings, url, lake)


def listed_models(settings: Settings, url: str) -> CheckResult:
    """Ask the endpoint for its list of models, and check that the model of the settings is in it."""
    import openai

    from nightlog.llm.connection import connect

    try:
        client = connect(settings.model_copy(update={"llm_timeout_s": min(settings.llm_timeout_s, LIST_TIMEOUT_S)}))
        names = {model.id for model in client.models.list().data}
    except ConfigError as trouble:
        return error(AREA, str(trouble), url, "correct the setting that it names")
    except openai.APIStatusError as refused:
        if refused.status_code in (401, 403):
            return error(AREA, f"the key is refused (status {refused.status_code})", url, "correct OPENAI_API_KEY")
        if refused.status_code in (404, 405, 501):
            return warning(
                AREA,
                f"answers, but has no list of models (status {refused.status_code})",
                url,
                "check that the address ends as the endpoint wants it, e.g. /v1",
            )
        return warning(
            AREA, f"answers with status {refused.status_code}", url, "try again later; a night would wait and then go on without"
        )
    except (openai.APIError, ValueError, AttributeError, TypeError) as trouble:
        return error(
            AREA,
            f"no sound answer ({type(trouble).__name__})",
            url,
            "check address, network, proxy and certificates; a night would go on without the LLM",
        )
    if names and settings.llm_model not in names:
        known = sorted(map(str, names))
        hint = nearest(settings.llm_model, known)
        shown = ", ".join(known[:SHOWN_MODELS]) + (" …" if len(known) > SHOWN_MODELS else "")
        return warning(AREA, f"answers, and does not list {settings.llm_model}{hint}", url, f"set NIGHTLOG_LLM_MODEL; it has {shown}")
    return ok(AREA, f"answers, with {len(names)} {'model' if len(names) == 1 else 'models'}", url)


def asked_once(settings: Settings, url: str, lake: Lake | None) -> Iterator[CheckResult]:
    """Ask one synthetic question as a night asks it. Check the form of the answer, and estimate the duration of tonight's asking."""
    from nightlog.llm.chat import ChatJudge, read_reply
    from nightlog.llm.client import Failure
    from nightlog.llm.items import Item
    from nightlog.llm.judge import make_judge
    from nightlog.llm.prompt import messages, response_format
    from nightlog.systems.spec import Input, Session, System

    judge = make_judge(settings.model_copy(update={"llm_calls_per_night": 1}))  # one attempt, without waits
    assert isinstance(judge, ChatJudge)
    system = System(name="doctor", role="target", input=Input(path="{ds}.log"), session=Session(kind="id", pattern="x"))
    items = [Item("q", (("Service <*> started", 1), ("Request <*> served in <NUM> ms", 8), ("Service <*> stopped", 1)))]
    reply = judge.client.ask(messages(system, items), response_format(items, judge.client.options.schema_bounds), len(items))
    if isinstance(reply, Failure):
        advice = {"halve": "raise NIGHTLOG_LLM_TIMEOUT_S, or take a smaller model", "go on": "try again later"}
        yield error(AREA, f"one question: {reply.trouble}", url, advice.get(reply.then, "correct the setting; a night would go on without"))
        return
    if trouble := read_reply(reply, items).trouble:
        advice_on_form = "take a server and model that keep to `response_format` json_schema"
        yield error(AREA, f"one question, {reply.seconds:.1f} s: {trouble}", url, advice_on_form)
        return
    writing = max(reply.seconds - reply.prompt_seconds, 1e-3)
    known = patterns_of_a_night(lake) if lake is not None else None
    n_patterns = known if known is not None else PATTERNS_UNKNOWN
    n_requests = math.ceil(n_patterns / settings.llm_items_per_call)
    # The instructions are read once for each request, the answer is written once for each pattern.
    minutes = math.ceil((n_requests * reply.prompt_seconds + n_patterns * writing) / 60)
    about = "new patterns take" if known is None else "patterns, as on the systems' last nights, take"
    result = (
        f"one question: answered in {reply.seconds:.1f} s, {reply.tokens.output / writing:.0f} tokens a second; "
        f"{n_patterns:,} {about} about {minutes:,} min"
    )
    if minutes > settings.llm_minutes_per_night:
        yield warning(AREA, result, url, "raise NIGHTLOG_LLM_MINUTES_PER_NIGHT or take a faster server: the rest waits for later nights")
    else:
        yield ok(AREA, result, url)


def patterns_of_a_night(lake: Lake) -> int | None:
    """Return the patterns that the systems' last nights asked about or left open, None before the first night."""
    last: dict[str, int] = {}
    for row in sorted(lake.rows(NIGHTS, ["system", "ds", "run_llm_items", "run_llm_failed"]), key=lambda row: str(row["ds"])):
        last[row["system"]] = max(row["run_llm_items"] or 0, row["run_llm_failed"] or 0)
    return sum(last.values()) if last else None
