"""`docs/reference/settings.md`, from the settings' own model."""

from __future__ import annotations

from nightlog.reference.markdown import NOTE, bounds, default_words, markdown_table, type_words
from nightlog.settings import Settings

HEAD = f"""# Settings

{NOTE}

All settings come from the environment; options of a command (`--lake`, `--data`, `--master`) go before it. Secrets are never printed,
logged or stored.

"""

TAIL = """## Of Airflow's tasks alone

| variable | default | meaning |
|---|---|---|
| `NIGHTLOG_HOME` | the folder above `dags/` | where `jobs/` and the jobs' `.venv` lie |
| `NIGHTLOG_STAGE_TIMEOUT_S` | `14400` | a stage that takes longer is ended with its children, and tried again |
| `NIGHTLOG_RETRY_DELAY_S` | `60` | the first pause before another try; each later one is twice as long |

All other variables of the worker's environment reach the programs as they are.
"""


def settings_page() -> str:
    """The page, as Markdown."""
    rows = []
    prefix = str(Settings.model_config.get("env_prefix", ""))
    for name, field in Settings.model_fields.items():
        variable = str(field.validation_alias or f"{prefix}{name}".upper())
        value = ", ".join(part for part in (type_words(field.annotation), bounds(field)) if part)
        rows.append((f"`{variable}`", value, default_words(field.default), field.description or ""))
    return HEAD + markdown_table(("variable", "value", "default", "meaning"), rows) + TAIL
