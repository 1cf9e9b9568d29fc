"""The LLM's endpoint: which one would be asked, may it be, is there a key; with `online`, does it answer. No log text is sent."""

from __future__ import annotations

from collections.abc import Iterator

from nightlog.doctor.finding import Finding, error, ok, warning
from nightlog.errors import ConfigError
from nightlog.settings import Settings

AREA = "llm"
PATIENCE_S = 10.0


def endpoint(settings: Settings, online: bool) -> Iterator[Finding]:
    """What would be asked tonight, and whether it can be."""
    if settings.provider == "off":
        yield ok(AREA, "off: the small model decides alone, its rows say provisional", "NIGHTLOG_LLM")
        return
    if settings.provider == "recorded":
        there = settings.verdicts.is_file()
        told = "answers come from a file of recorded verdicts"
        yield (
            ok(AREA, told, str(settings.verdicts))
            if there
            else error(AREA, f"{told}, and it is not there", str(settings.verdicts), "name it: NIGHTLOG_LLM_RECORDED")
        )
        return
    from nightlog.llm.connection import checked_url

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
        grade = warning if settings.openai_base_url else error
        yield grade(AREA, "no key is set", "OPENAI_API_KEY", "set it, unless the endpoint needs none; or NIGHTLOG_LLM=off")
    if online:
        yield reached(settings, url)


def reached(settings: Settings, url: str) -> Finding:
    """Does the endpoint answer when it is asked for its list of models?"""
    import openai

    from nightlog.llm.connection import connect

    try:
        client = connect(settings.model_copy(update={"llm_timeout_s": min(settings.llm_timeout_s, PATIENCE_S)}))
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
                "see that the address ends as the endpoint wants it, e.g. /v1",
            )
        return warning(
            AREA, f"answers with status {refused.status_code}", url, "try again later; a night would wait and then go on without"
        )
    except (openai.APIError, ValueError, AttributeError, TypeError) as trouble:
        return error(
            AREA,
            f"no sound answer ({type(trouble).__name__})",
            url,
            "see address, network, proxy and certificates; a night would go on without the LLM",
        )
    if names and settings.llm_model not in names:
        return warning(AREA, f"answers, and does not list {settings.llm_model}", url, "name one that it has: NIGHTLOG_LLM_MODEL")
    return ok(AREA, f"answers, with {len(names)} models", url)
