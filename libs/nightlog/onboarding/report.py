"""A trial from files to what a person reads: one mapping that is printed or given as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

from nightlog.errors import ConfigError
from nightlog.llm.prompt import outgoing_events
from nightlog.onboarding.cost import estimate, items_of
from nightlog.onboarding.findings import findings, shorten
from nightlog.onboarding.propose import Proposal, propose
from nightlog.onboarding.sample import input_path, modified, read_sample
from nightlog.onboarding.toml import to_toml
from nightlog.onboarding.trial import Trial
from nightlog.settings import Settings
from nightlog.systems.catalog import load_catalog, parse_system

SHOWN_TEMPLATES, SHOWN_CANDIDATES, SHOWN_QUESTIONS = 12, 4, 3


def system_name(path: Path) -> str:
    """A system's name from a file's: its first words.

    >>> system_name(Path("/var/log/Shop-API-2026-03-04.log.gz"))
    'shop-api'
    """
    words = re.findall(r"[a-z][a-z0-9]*", path.name.split(".")[0].lower())
    return "-".join(words) or "system"


def report_of(files: Sequence[Path], name: str, n_lines: int, settings: Settings) -> tuple[dict[str, Any], Trial]:
    """Read a sample of the files, propose a system, and say how it does. The proposed text is read back as a night would read it."""
    if name and not re.fullmatch(r"[a-z][a-z0-9_-]*", name):
        raise ConfigError(f"--name {name}: a name begins with a letter and has only a-z, 0-9, _ and -")
    sample = read_sample(files, n_lines)
    path, folder, day = input_path(files, settings.data)
    name = name or system_name(files[0])
    ds = day or modified(files)
    proposal = propose(sample.lines, name, path, ds, delivered=day is None, spread=sample.spread)
    trial = proposal.trial
    if day is None:
        times = [event.at for event in trial.matched if event.at is not None]
        dated = proposal.trial.system.timestamp is not None and "{ds" not in proposal.trial.system.timestamp.value
        ds = max(times).date().isoformat() if times and dated else ds
        proposal.sections["input"]["delivered"] = date.fromisoformat(ds)
    toml = to_toml(proposal.sections)
    parse_system(toml, "the proposed file")
    return {
        "name": name,
        "format": proposal.how,
        "lines": sample.n_lines,
        "lines_estimated": sample.estimated,
        "lines_looked_at": len(sample.lines),
        "records": len(trial.events),
        "matched": round(trial.matched_share, 6),
        "swallowed": round(trial.swallowed_share, 6),
        "timed": round(trial.timed_share, 6),
        "in_session": round(trial.in_session_share, 6),
        "templates": len(trial.by_template),
        "sessions": len(trial.sessions),
        "patterns": len(trial.patterns),
        "questions": len(trial.questions),
        "example": example(trial),
        "top_templates": [{"template": text, "records": n} for text, n in trial.by_template.most_common(SHOWN_TEMPLATES)],
        "candidates": candidates(proposal),
        "outgoing": [json.dumps(outgoing_events(item.events, ()), ensure_ascii=False) for item in items_of(trial)[:SHOWN_QUESTIONS]],
        "cost": asdict(estimate(trial, sample.n_lines, settings)),
        "findings": [*known(name), *findings(sample, proposal)],
        "toml": toml,
        "ds": ds,
        "data": str(folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder),
    }, trial


def known(name: str) -> list[str]:
    """A warning where a system of this name ships with Nightlog."""
    taken = name in load_catalog()
    return [f"a system named `{name}` ships with Nightlog, and this file would stand in its place: give another --name"] if taken else []


def example(trial: Trial) -> dict[str, str]:
    """The fields of a typical record, and what they come to."""
    if not trial.matched:
        return {}
    usual = trial.by_template.most_common(1)[0][0]
    event = next(event for event in trial.matched if trial.templates[event.message] == usual)
    fields = {name: shorten(value, 160) for name, value in event.fields.items() if name != "message" and value}
    return fields | {
        "message": shorten(event.fields["message"], 160),
        "→ time": event.at.isoformat() if event.at else "the night's day",
        "→ session": ", ".join(event.ids) or "none",
        "→ template": shorten(usual, 160),
    }


def candidates(proposal: Proposal) -> list[dict[str, Any]]:
    """The best ways to make sessions, with what their scores are made of."""
    return [
        {
            "field": each.candidate.field,
            "pattern": each.candidate.pattern,
            "score": round(each.value, 4),
            "sessions": each.n_sessions,
            "coverage": round(each.coverage, 4),
            "alike": round(each.alike, 4),
        }
        for each in proposal.ranked[:SHOWN_CANDIDATES]
    ]
