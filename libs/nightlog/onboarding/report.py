"""The report of `nightlog try`: the proposed file, how lines parse, what looks wrong, and the cost of the first night."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from nightlog.errors import ConfigError, NotThere, UsageError
from nightlog.ingest.ingest import cut_off
from nightlog.llm.items import Item
from nightlog.llm.prompt import messages, outgoing_events
from nightlog.onboarding.days import Origin, origin_of
from nightlog.onboarding.findings import findings, shorten
from nightlog.onboarding.propose import Proposal, propose
from nightlog.onboarding.sample import Sample, read_sample
from nightlog.onboarding.sessions import rank
from nightlog.onboarding.trial import Trial, group_sessions, try_system
from nightlog.settings import Settings
from nightlog.systems.catalog import load_catalog, parse_system
from nightlog.systems.paths import expression_of
from nightlog.systems.spec import System

CHARACTERS_A_TOKEN = 4.0  # of English text and log templates, about
TOKENS_AN_ANSWER = 60  # label, confidence and one line of reason
SHOWN_CALLS = 5  # requests whose prompts are measured


@dataclass(frozen=True)
class Estimate:
    """A night's first round: `questions` are patterns that nobody has judged yet; later nights ask only about new ones.

    `growth` is the exponent with which questions grow with lines (0: all kinds are seen already, 1: each session is new).
    """

    questions: int
    calls: int
    tokens_in: int
    tokens_out: int
    money: float  # US dollars
    growth: float
    calls_allowed: int


def items_of(trial: Trial) -> list[Item]:
    """The questions of the sample, the most frequent first."""
    return [Item(f"q{number}", events) for number, (events, _) in enumerate(trial.questions.most_common())]


def growth_of(trial: Trial) -> float:
    """Return how questions grow with lines, in [0, 1]: from half of the sample to the whole."""
    half = trial.matched[: len(trial.matched) // 2]
    if not half or not trial.questions:
        return 0.0
    sessions = group_sessions(half, trial.templates).values()
    counted = trial.system.session.kind == "id"
    before = len({session.pattern if counted else tuple(sorted(session.counts)) for session in sessions})
    return min(1.0, max(0.0, math.log2(len(trial.questions) / max(1, before))))


def estimate(trial: Trial, n_lines: int, settings: Settings) -> Estimate:
    """Return what a night of `n_lines` like the sample's would cost in its first round, without a single verdict known before."""
    items, growth = items_of(trial), growth_of(trial)
    questions = round(len(items) * max(1.0, n_lines / max(1, trial.n_lines)) ** growth)
    size = settings.llm_items_per_call
    batches: list[Sequence[Item]] = [batch for n in range(SHOWN_CALLS) if (batch := list(islice(items, n * size, (n + 1) * size)))]
    sent = [sum(len(text) for _, text in messages(trial.system, batch)) / CHARACTERS_A_TOKEN for batch in batches]
    base = sum(len(text) for _, text in messages(trial.system, [])) / CHARACTERS_A_TOKEN
    an_item = (sum(sent) - base * len(sent)) / max(1, sum(map(len, batches)))
    calls = math.ceil(questions / size)
    tokens_in, tokens_out = round(calls * base + questions * an_item), questions * TOKENS_AN_ANSWER
    prices = settings.prices
    money = (tokens_in * prices.input + tokens_out * prices.output) / 1e6
    return Estimate(questions, calls, tokens_in, tokens_out, round(money, 4), round(growth, 2), settings.llm_calls_per_night)


SHOWN_TEMPLATES, SHOWN_CANDIDATES, SHOWN_QUESTIONS = 12, 4, 3


def system_name(path: Path) -> str:
    """A system's name from a file's: its first words.

    >>> system_name(Path("/var/log/Shop-API-2026-03-04.log.gz"))
    'shop-api'
    """
    words = re.findall(r"[a-z][a-z0-9]*", path.name.split(".")[0].lower())
    return "-".join(words) or "system"


def report_of(
    files: Sequence[Path], name: str, n_lines: int, settings: Settings, given: Path | None = None
) -> tuple[dict[str, Any], Trial]:
    """Read a sample of the files, propose a system or take the given one, and say how it does.

    Args: given: a system's file that is tried instead of a proposal. Raises ConfigError if it cannot be read.
    """
    if name and not re.fullmatch(r"[a-z][a-z0-9_-]*", name):
        raise UsageError(f"--name {name}: a name begins with a letter and has only a-z, 0-9, _ and -")
    sample = read_sample(files, n_lines)
    origin = origin_of(files, settings.data)
    if given is None:
        proposal, ds = proposed(files, name, sample, origin)
        notes = known(proposal.trial.system.name)
    else:
        proposal, ds = tried(given, sample, origin)
        notes = unfound(proposal.trial.system, files)
    trial = proposal.trial
    return {
        "name": trial.system.name,
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
        "findings": [*notes, *findings(sample, proposal, origin)],
        "toml": proposal.toml,
        "ds": ds,
        "data": str(origin.folder.relative_to(Path.cwd()) if origin.folder.is_relative_to(Path.cwd()) else origin.folder),
    }, trial


def proposed(files: Sequence[Path], name: str, sample: Sample, origin: Origin) -> tuple[Proposal, str]:
    """Return a proposal for the files, and its night. The proposed text is read back as a night would read it."""
    ds = origin.ds
    proposal = propose(sample.lines, name or system_name(files[0]), origin.path, ds, not origin.days, spread=sample.spread)
    if not origin.days:
        times = [event.at for event in proposal.trial.matched if event.at is not None]
        stamp = proposal.trial.system.timestamp
        ds = max(times).date().isoformat() if times and stamp is not None and "{ds}" not in stamp.value else ds
        proposal.sections["input"]["delivered"] = date.fromisoformat(ds)
    parse_system(proposal.toml, "the proposed file")
    return proposal, ds


def tried(given: Path, sample: Sample, origin: Origin) -> tuple[Proposal, str]:
    """Return the trial of a given system's file as a proposal, and its night. Labels are cut off the lines as when a night reads them."""
    try:
        text = given.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotThere(f"{given}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{given}: cannot be read: {error}") from error
    system = parse_system(text, str(given))
    ds = system.input.delivered.isoformat() if system.input.delivered is not None else origin.ds
    lines = sample.lines
    if system.labels is not None and system.labels.pattern is not None:
        lines = cut_off(pa.chunked_array([pa.array(lines, pa.string())]), system.labels.pattern)[0].to_pylist()
    trial = try_system(lines, system, ds)
    fields = [name for name in system.header.fields if name not in ("time", "level")]
    ranked = rank(trial.matched, trial.templates, fields) if trial.matched else []
    return Proposal({}, trial, tuple(ranked), given.name, (), tuple(trial.matched), text), ds


def unfound(system: System, files: Sequence[Path]) -> list[str]:
    """Return a warning if the path of a system's file does not find a file that it is tried on."""
    path = system.input.path
    pattern = re.compile(rf"(?:.*/)?{expression_of(path)}")
    lost = [file for file in files if not pattern.fullmatch(file.resolve().as_posix())]
    return [f"[input] path = {path} does not find {lost[0]}: no night reads it"] if lost else []


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
