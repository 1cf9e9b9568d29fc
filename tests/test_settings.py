"""A setting that is wrong is a configuration error, told with its variable, in every program."""

from __future__ import annotations

import pytest
from nightlog.errors import ConfigError
from nightlog.outcomes import EXIT_PERMANENT, EXIT_TRANSIENT, Stage
from nightlog.run.entry import ended, run_stage, settings_from
from nightlog.settings import read_settings


def test_wrong_settings_are_told_together(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_settings().llm_at_once == 2
    monkeypatch.setenv("NIGHTLOG_LLM_AT_ONCE", "many")
    monkeypatch.setenv("NIGHTLOG_LLM", "opnai")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with pytest.raises(ConfigError) as told:
        settings_from()
    for words in ("NIGHTLOG_LLM_AT_ONCE: Input should be", "NIGHTLOG_LLM: Input should be", "'openai', 'recorded' or 'off'", "settings.md"):
        assert words in str(told.value)
    assert not any(value in str(told.value) for value in ("sk-secret", "many", "opnai")), "a value may be a key"


def test_a_job_with_a_wrong_setting_ends_as_permanent(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("NIGHTLOG_REPLAY_DAYS", "1")
    assert run_stage(Stage.LABEL, "", ["--ds", "2026-03-04"]) == EXIT_PERMANENT
    assert "NIGHTLOG_REPLAY_DAYS: Input should be" in capsys.readouterr().err


def test_what_a_library_raises_is_transient_a_crash_or_permanent() -> None:
    def lost() -> int:
        raise ConnectionError("connection reset by peer")

    def wrong() -> int:
        raise ConfigError("wrong")

    def crash() -> int:
        raise ZeroDivisionError

    assert (ended(lambda: 0), ended(lost), ended(wrong)) == (0, EXIT_TRANSIENT, EXIT_PERMANENT)
    with pytest.raises(ZeroDivisionError):
        ended(crash)


@pytest.mark.parametrize("name", ["LAKE", "DATA", "SYSTEMS"])
def test_an_empty_path_is_not_the_working_folder(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"NIGHTLOG_{name}", "")
    with pytest.raises(ConfigError, match=f"NIGHTLOG_{name}: .*is empty, expected a path"):
        read_settings()
