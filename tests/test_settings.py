"""A setting that is wrong is a configuration error, told with its variable, in every program."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from nightlog.errors import ConfigError
from nightlog.outcomes import EXIT_PERMANENT, EXIT_TRANSIENT, Stage
from nightlog.run.entry import exit_code_of, run_stage
from nightlog.settings import file_text, read_settings, settings_from, sources


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

    assert (exit_code_of(lambda: 0), exit_code_of(lost), exit_code_of(wrong)) == (0, EXIT_TRANSIENT, EXIT_PERMANENT)
    with pytest.raises(ZeroDivisionError):
        exit_code_of(crash)


@pytest.mark.parametrize("name", ["LAKE", "DATA", "SYSTEMS"])
def test_an_empty_path_is_not_the_working_folder(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"NIGHTLOG_{name}", "")
    with pytest.raises(ConfigError, match=f"NIGHTLOG_{name}: .*is empty, expected a path"):
        read_settings()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder without settings in the environment."""
    for name in [name for name in os.environ if name.startswith(("NIGHTLOG_", "OPENAI_"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_file_gives_settings_the_environment_goes_before_it_and_an_option_before_both(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = 'lake = "tables"\ndata = "/var/log"\nllm = "off"\nllm_at_once = 3\nopenai_base_url = "http://127.0.0.1:1/v1"\n'
    (folder / "nightlog.toml").write_text(text)
    found = settings_from()
    assert (found.lake, found.data, found.llm, found.llm_at_once) == (folder / "tables", Path("/var/log"), "off", 3)
    assert found.openai_base_url == "http://127.0.0.1:1/v1"
    monkeypatch.setenv("NIGHTLOG_LLM_AT_ONCE", "5")
    assert settings_from().llm_at_once == 5
    assert settings_from(lake=Path("/other")).lake == Path("/other")
    elsewhere = folder / "etc"
    elsewhere.mkdir()
    (elsewhere / "my.toml").write_text('lake = "s3://bucket/lake"\nmetrics = "night.prom"\n')
    monkeypatch.setenv("NIGHTLOG_CONFIG", "etc/my.toml")
    found = settings_from()
    assert (str(found.lake), found.metrics, found.llm) == ("s3:/bucket/lake", elsewhere / "night.prom", None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("laek = 'x'", "no such setting; did you mean `lake`"),
        ("openai_api_key = 'sk-secret'", "set OPENAI_API_KEY in the environment"),
        ("llm = 'opnai'", "llm in "),
        ("llm = ", "cannot be read as TOML"),
    ],
)
def test_a_wrong_file_is_refused_in_words(folder: Path, text: str, words: str) -> None:
    (folder / "nightlog.toml").write_text(text)
    with pytest.raises(ConfigError) as refused:
        read_settings()
    assert words in str(refused.value) and "sk-secret" not in str(refused.value)


def test_a_file_that_is_named_and_not_there_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIGHTLOG_CONFIG", str(folder / "none.toml"))
    with pytest.raises(ConfigError, match=r"none\.toml"):
        read_settings()


def test_the_file_of_init_changes_nothing_and_is_valid_without_its_comment_signs(folder: Path) -> None:
    before = read_settings()
    text = file_text()
    (folder / "nightlog.toml").write_text(text)
    assert read_settings() == before
    given = [line.removeprefix("# ") for line in text.splitlines() if re.match(r"# \w+ = .", line)]
    (folder / "nightlog.toml").write_text("\n".join(given))
    same = read_settings().model_dump(exclude={"lake"})
    assert len(given) > 20 and same == before.model_dump(exclude={"lake"})


def test_the_source_of_each_setting_is_known(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sources() == []
    (folder / "nightlog.toml").write_text('lake = "tables"\nllm = "off"\n')
    monkeypatch.setenv("NIGHTLOG_LLM", "recorded")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    path = str(folder / "nightlog.toml")
    assert sources() == [
        ("lake", str(folder / "tables"), path),
        ("llm", "recorded", "environment"),
        ("openai_api_key", "(not shown)", "environment"),
    ]
