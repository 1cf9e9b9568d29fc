"""Dockerfile and compose.yaml go with each other and with the repository; `make container-test` executes them."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from dockerfile import expanded, instructions, stages_of

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = (ROOT / "compose.yaml").read_text(encoding="utf-8")


def test_instructions_are_read_with_their_continuations_and_without_comments() -> None:
    text = "# no\nARG X=1\nFROM a AS b\nRUN x && \\\n  y\n\nCOPY --from=b /c /c\n"
    assert instructions(text) == [("ARG", "X=1"), ("FROM", "a AS b"), ("RUN", "x && y"), ("COPY", "--from=b /c /c")]
    assert stages_of(text) == {"b": [("FROM", "a AS b"), ("RUN", "x && y"), ("COPY", "--from=b /c /c")]}
    assert expanded("$A/bin:${B}:$C", {"A": "/x", "B": "y"}) == "/x/bin:y:"


def test_images_run_as_an_ordinary_user() -> None:
    for target in ("read", "jobs", "airflow"):
        assert [rest for word, rest in stages_of(DOCKERFILE)[target] if word == "USER"][-1] == "nightlog"


def test_the_context_has_all_that_is_copied_and_nothing_else() -> None:
    copied = [path for word, rest in instructions(DOCKERFILE) if word == "COPY" and "--from" not in rest for path in rest.split()[:-1]]
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line.startswith("!")]
    assert sorted(copied) == sorted(kept)
    assert all((ROOT / path).exists() for path in copied)


def test_the_image_is_built_by_the_uv_of_the_set_up() -> None:
    setup = re.search(r"UV_VERSION=(\S+)", (ROOT / ".ci" / "setup").read_text(encoding="utf-8"))
    assert setup is not None
    assert re.findall(r"uv==(\S+)", DOCKERFILE) == [setup[1]]


def test_the_compose_file_has_targets_of_the_dockerfile_health_checks_and_no_secret() -> None:
    services = yaml.safe_load(COMPOSE)["services"]
    assert {service["build"]["target"] for service in services.values() if "build" in service} <= set(stages_of(DOCKERFILE))
    assert [name for name, service in services.items() if "healthcheck" not in service] == ["migrate"]
    secrets = [
        value
        for service in services.values()
        for name, value in service["environment"].items()
        if re.search("PASSWORD|SECRET|KEY|CONN|WEBHOOK", name)
    ]
    assert len(secrets) > 2
    assert all(value is None or "${POSTGRES_PASSWORD:?" in value for value in secrets)


def test_the_head_of_the_compose_file_lists_its_variables() -> None:
    head, _, body = COMPOSE.partition("x-airflow:")
    used = set(re.findall(r"\$\{(\w+)", body)) | set(re.findall(r"^    ([A-Z_]+):$", body, re.MULTILINE))
    assert used == set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", head))
