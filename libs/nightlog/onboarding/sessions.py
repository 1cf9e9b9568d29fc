"""Sessions of a new system: candidates for ids in fields and messages, and how well each groups a sample into sessions.

A candidate is scored by what its sessions look like, never by its name. Good ids cover most lines, recur, make many sessions of several
templates, and few distinct patterns for many sessions; a line has one of them, no session holds nearly everything, and a session is short
beside the sample (it is the life of one thing). Each of these is a factor in [0, 1], and the score is their product: one that fails
altogether cannot be made up for by the others. Windows of time are scored the same way, and are the better sessions where no candidate
reaches ENOUGH nor does better than they do.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from nightlog.onboarding.trial import Event, Trial, masker
from nightlog.systems.spec import DEFAULT_MASKS

LOOKED_AT = 3000  # events in which candidates are looked for
MAX_CANDIDATES = 40
ENOUGH = 0.25
LEAST = 0.15

UUID = r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"
# What could be a value: with what stands before it, the last word and its punctuation.
PREFIXED = re.compile(r"(?<![\w-])([A-Za-z]+(?:[_-]))(-?(?=[a-zA-Z_-]*\d)[0-9a-zA-Z](?:[\w-]*\w)?)")
NAMED = re.compile(r"(?<![\w.])([A-Za-z][\w.]*(?:=|: ?|#| |\(|\[))(\"?)([\w.+/@-]*\w)")
ENCLOSED = re.compile(r"(?<=[<(\[])([A-Za-z0-9+/=_.-]{4,64})(?=[>)\]])")
SHAPED = re.compile(r"(?<![\w.+/-])(?=[A-Za-z]*\d)(?=\d*[A-Za-z])[0-9A-Za-z]{8,64}(?![\w.+/-])")
ADDRESS = r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?![\d.])"


@dataclass(frozen=True)
class Candidate:
    """A way to make sessions: the ids that `pattern` finds in a field, or the whole field where there is no pattern."""

    field: str
    pattern: str | None = None

    def ids(self, events: Sequence[Event]) -> list[tuple[str, ...]]:
        """The ids of each event."""
        if self.pattern is None:
            return [(value,) if (value := e.fields.get(self.field, "").strip()) and value != "-" else () for e in events]
        compiled = re.compile(self.pattern, re.ASCII)
        group = min(1, compiled.groups)
        return [tuple(dict.fromkeys(m[group] for m in compiled.finditer(e.fields.get(self.field, "")) if m[group])) for e in events]


@dataclass(frozen=True)
class Score:
    """The figures of the sessions that a candidate makes of a sample; shares are in [0, 1]."""

    candidate: Candidate
    coverage: float  # of events that have an id
    n_sessions: int
    recurring: float  # of covered events, in sessions of several events
    varied: float  # of sessions of several events, with several templates
    alike: float  # how many sessions share a pattern: 0 where each has its own
    ids_an_event: float  # of covered events
    largest: float  # of covered events in the largest session
    span: float  # of the sample that the middle session lasts
    returning: float  # of sessions of several events, that rest for a tenth of the sample and go on
    length: float  # characters of an id
    spaced: float  # of ids, with a blank in them

    @property
    def value(self) -> float:
        """The product of the factors."""
        many = min(1.0, math.log(max(1, self.n_sessions)) / math.log(200))
        return float(
            self.coverage
            * many
            * self.recurring**0.7
            * (0.35 + 0.65 * self.varied)
            * (0.3 + 0.7 * self.alike)
            * (1 - self.largest) ** 2
            * (1 - 0.25 * self.span)
            / max(1.0, self.ids_an_event) ** 0.5
            # Of ids that go together the longer ones are unique for longer: numbers of processes come again. Ids have no blanks.
            * (0.97 + 0.03 * min(1.0, self.length / 16) - 0.03 * self.spaced)
        )


def char_class(values: Iterable[str]) -> str:
    """The narrowest usual class of characters that the values are made of."""
    seen = set("".join(values))
    extra = "".join(c for c in ("+/=._@-") if c in seen)
    for name, kind in ((r"\d", r"\d"), ("0-9a-f", "[0-9a-f]"), ("0-9A-F", "[0-9A-F]"), ("0-9A-Za-z", "[0-9A-Za-z]"), (r"\w", r"\w")):
        if all(c in extra or re.fullmatch(kind, c) for c in seen):
            return f"[{name}{extra}]" if extra or not name.startswith("\\") else name
    return r"\w"


def candidates(events: Sequence[Event], fields: Sequence[str]) -> list[Candidate]:
    """Return what could be ids, the more frequent first.

    Whole fields; values behind a word (`instance: …`, `uid=…`), behind a prefix (`blk_…`), within brackets, of one shape (letters
    and digits mixed), universally unique ones, and addresses.
    """
    looked = events[:: max(1, len(events) // LOOKED_AT)]
    found: list[tuple[int, Candidate]] = []
    for field in fields:
        values = [value for e in looked if (value := e.fields.get(field, ""))]
        if field != "message" and len(set(values)) > 1:
            found.append((len(looked), Candidate(field)))
        if field != "message" and sum(len(value) for value in values[:200]) < 6 * len(values[:200]):
            continue
        seen: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        for value in values:
            collect(value, seen)
        found += [
            (len(same), each) for key, same in seen.items() if len(same) >= 0.02 * len(looked) and (each := from_key(field, key, same))
        ]
    # The position in the sample does not matter, and of equal candidates the one that was found first stays.
    ranked = sorted({c: n for n, c in reversed(found)}.items(), key=lambda pair: -pair[1])
    return [candidate for candidate, _ in ranked][:MAX_CANDIDATES]


def collect(text: str, seen: defaultdict[tuple[str, str], list[str]]) -> None:
    """Note the possible ids of a text by how they could be found again."""
    for match in re.finditer(rf"({'|'.join(('(?:[A-Za-z]+[ :=_-]+)', ''))}){UUID}", text):
        seen["uuid", match[1]].append(match[0][len(match[1]) :])
        seen["uuid", ""].append(match[0][len(match[1]) :])
    for match in PREFIXED.finditer(text):
        if not re.fullmatch(UUID, match[2]):
            seen["prefix", match[1]].append(match[2])
    for match in NAMED.finditer(text):
        if not re.fullmatch(UUID, match[3]) and (match[1].endswith("=") or re.search(r"\d", match[3])):
            seen["named", match[1] + match[2]].append(match[3])
    for match in ENCLOSED.finditer(text):
        if re.search(r"\d", match[1]) or re.search(r"[a-z][A-Z]", match[1]):
            around = text[match.start() - 1] + text[match.end()]
            seen["enclosed", around].append(match[1])
            seen["enclosed", f"{around}{len(match[1])}"].append(match[1])
    for match in SHAPED.finditer(text):
        seen["shape", text[match.end() : match.end() + 1].strip(" ,.;)")].append(match[0])
    if re.search(ADDRESS, text):
        seen["address", ""].append("")


def next_to(length: int, lengths: Sequence[int], step: int) -> int:
    """The last length that is reached from this one by steps without a gap."""
    seen = set(lengths)
    while length + step in seen:
        length += step
    return length


def from_key(field: str, key: tuple[str, str], values: Sequence[str]) -> Candidate | None:
    """The candidate that finds such values again."""
    kind, near = key
    if len(set(values)) < 2 and kind != "address":
        return None
    lengths = [len(value) for value in values]
    usual = [n for n, count in Counter(lengths).items() if count >= 0.005 * len(lengths)]
    usual = list(range(next_to(min(usual), lengths, -1), next_to(max(usual), lengths, 1) + 1))
    size = f"{{{min(usual)}}}" if min(usual) == max(usual) else f"{{{min(usual)},{max(usual)}}}"
    count = f"{{{lengths[0]}}}" if len(set(lengths)) == 1 and lengths[0] >= 8 and len(values) >= 20 else "+"
    if kind == "address":
        return Candidate(field, ADDRESS)
    if kind == "uuid":
        return Candidate(field, f"{re.escape(near).replace(chr(92) + ' ', ' ')}({UUID})" if near else UUID)
    if kind == "prefix":
        inner = char_class(values)
        return Candidate(field, rf"\b{re.escape(near)}{inner}{count}")
    if kind == "named":
        before = re.escape(near).replace("\\ ", " ").replace('\\"', '"').replace("\\=", "=").replace("\\:", ":").replace("\\#", "#")
        digits = r"(?=[^\d\s]*\d)" if not near.rstrip('"').endswith("=") and char_class(values) != r"\d" else ""
        return Candidate(field, rf"\b{before}{digits}({char_class(values)}{count})")
    if kind == "enclosed":
        count = f"{{{near[2:]}}}" if len(near) > 2 else "+"  # one length alone is a candidate, too
        return Candidate(field, f"{re.escape(near[0])}({char_class(values)}{count}){re.escape(near[1])}")
    mixed = char_class(values)
    if len(set(lengths)) > 12 or len(usual) > 6:
        return None
    behind = re.escape(near) if near in (":", "=", ">", "]") else ""
    ahead = rf"(?=[A-Za-z]*\d)(?=\d*[A-Za-z])({mixed}{size})"
    return Candidate(field, rf"(?<![\w.+/-]){ahead}" + (behind or r"(?![\w.+/-])"))


def score(
    candidate: Candidate, events: Sequence[Event], templates: dict[str, str], given: Sequence[tuple[str, ...]] | None = None
) -> Score:
    """Group the events by the candidate, or by the ids that are given for each, and say how that looks."""
    places: defaultdict[str, list[int]] = defaultdict(list)
    covered = 0
    for place, ids in enumerate(candidate.ids(events) if given is None else given):
        covered += bool(ids)
        for each in ids:
            places[each].append(place)
    if not places:
        return Score(candidate, 0, 0, 0, 0, 0, 1, 1, 1, 0, 0, 0)
    patterns, varied, several, alone, returning = set(), 0, 0, 0, 0
    for found in places.values():
        counts = Counter(templates[events[place].message] for place in found)
        patterns.add(tuple(sorted((template, n.bit_length()) for template, n in counts.items())))
        several += len(found) > 1
        alone += len(found) == 1
        returning += any(b - a > 0.1 * len(events) for a, b in pairwise(found))
        varied += len(counts) > 1
    spans = sorted((found[-1] - found[0] + 1) / len(events) for found in places.values())
    named = sum(map(len, places.values()))
    fewer = 1 - math.log(len(patterns)) / math.log(len(places)) if len(places) > 1 else 0.0
    return Score(
        candidate,
        coverage=covered / len(events),
        n_sessions=len(places),
        recurring=1 - alone / named,
        varied=varied / max(1, several),
        alike=(1 - len(patterns) / len(places) + fewer) / 2,
        ids_an_event=named / covered,
        largest=max(map(len, places.values())) / named,
        span=spans[len(spans) // 2],
        returning=returning / max(1, several),
        length=sum(map(len, places)) / len(places),
        spaced=sum(" " in each for each in places) / len(places),
    )


def rank(events: Sequence[Event], templates: dict[str, str], fields: Sequence[str]) -> list[Score]:
    """The candidates, best first. Equal ones: whole fields before patterns, shorter patterns first."""
    scored = [score(each, events, templates) for each in candidates(events, fields)]
    return sorted(
        scored, key=lambda s: (-round(s.value, 4), s.candidate.pattern is not None, len(s.candidate.pattern or ""), s.candidate.field)
    )


def session_of(ranked: Sequence[Score], trial: Trial) -> tuple[dict[str, Any], list[str]]:
    """The section of the sessions: the best candidate if it is good enough, else time windows, else each distinct message."""
    best = ranked[0] if ranked else None
    minutes = window(trial)
    timed = trial.timed_share > 0.5 and trial.system.timestamp is not None
    windows = [(str(int(e.at.timestamp()) // (60 * minutes)),) if e.at else () for e in trial.matched]
    by_time = score(Candidate("time"), trial.matched, trial.templates, windows).value if timed else 0.0
    if best is not None and best.value >= min(ENOUGH, max(by_time, LEAST)):
        found = best.candidate
        if found.pattern is not None:
            return {"kind": "id", "pattern": found.pattern} | ({"field": found.field} if found.field != "message" else {}), []
        # What comes back again and again is a place, and what a place happens to log is asked about without counts.
        life = best.span < 0.2 and best.returning < 0.2 and best.n_sessions >= 20
        return (
            {"kind": "id", "field": found.field, "pattern": "(.+)"} if life else {"kind": "field", "field": found.field, "lookback_days": 0}
        ), []
    if timed:
        return {"kind": "window", "window_minutes": minutes, "lookback_days": 0}, [
            "no id groups the lines well: a session is a window of time. If something runs through the lines that belong together, such as "
            "a request or a job, give its pattern in [session]"
        ]
    return {"kind": "field", "field": "message", "lookback_days": 0}, [
        "neither ids nor times: each distinct message is a session of its own, and nothing is seen of what belongs together"
    ]


def elsewhere(best: Score, trial: Trial) -> bool:
    """Return whether the ids stand in other fields, too, so that the sessions are better where these are looked through as well."""
    if best.candidate.pattern is None:
        return False
    pattern = re.compile(best.candidate.pattern, re.ASCII)
    group = min(1, pattern.groups)
    whole = [tuple(dict.fromkeys(m[group] for m in pattern.finditer(event.record.text) if m[group])) for event in trial.matched]
    wider = score(best.candidate, trial.matched, trial.templates, whole)
    return wider.coverage >= best.coverage + 0.01 and wider.value > best.value


def window(trial: Trial) -> int:
    """Minutes of a window: an hour, less where a sample of many lines lasts shorter than a day."""
    times = sorted(event.at for event in trial.matched if event.at is not None)
    hours = (times[-1] - times[0]).total_seconds() / 3600 if times else 0
    return 60 if hours >= 24 or len(times) < 500 else 10 if hours >= 2 else 1


def own_masks(trial: Trial, session: dict[str, Any]) -> list[dict[str, Any]]:
    """Masks for ids and addresses of mail that the masks of every system leave in many forms."""
    found: list[dict[str, Any]] = []
    mask = masker(DEFAULT_MASKS)
    pattern = session.get("pattern")
    if session["kind"] == "id" and pattern and session.get("field", "message") in ("message", "entry"):
        compiled = re.compile(pattern, re.ASCII)
        group = min(1, compiled.groups)
        values = {m[group] for e in trial.matched for m in compiled.finditer(e.fields["message"])}
        if len({mask(value) for value in values}) > max(3, 0.02 * len(values)):
            found.append({"name": "ID", "pattern": bare(pattern)})
    mail = re.compile(r"(?<=<)[^<>\s]*@[^<>\s]*(?=>)|[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
    with_mail = sum(mail.search(e.fields["message"]) is not None for e in trial.matched)
    if with_mail >= 0.01 * max(1, len(trial.matched)):
        found.append({"name": "MAIL", "pattern": mail.pattern})
    return found


def bare(pattern: str) -> str:
    """A session pattern as a mask: of a pattern with a group, the group with what stands around it as a condition where that is fixed.

    >>> bare(r"<(\\w{16})>"), bare(r"req (\\d+)"), bare(r"(?<!x)(\\w{13,14}):")
    ('(?<=<)(?:\\\\w{16})(?=>)', '(?<=req )(?:\\\\d+)', '(?<!x)(?:\\\\w{13,14})\\\\b')
    """
    group = re.search(r"(?<!\\)\((?!\?)", pattern)
    if group is None:
        return pattern
    depth, end = 0, group.start()
    for end in range(group.start(), len(pattern)):
        depth += {"(": 1, ")": -1}.get(pattern[end], 0) if pattern[end - 1] != "\\" else 0
        if depth == 0:
            break
    before, inner, after = pattern[: group.start()], pattern[group.start() + 1 : end], pattern[end + 1 :]
    conditions = re.match(r"(?:\\b|\(\?[=!<][^()]*(?:\([^()]*\)[^()]*)*\))*", before)
    kept = conditions[0] if conditions else ""
    fixed = before[len(kept) :]
    ahead = re.search(r"(?:\(\?=[^()]*\))+$", fixed)
    kept, fixed = (kept, fixed) if not ahead else (kept + ahead[0], fixed[: ahead.start()])
    if re.fullmatch(r"\\?[^\w\s\\]", after) and not fixed:
        after = r"\b"  # a mark behind an id in one place is none in another
    behind = f"(?={after})" if after and not after.startswith(("(?", r"\b")) else after
    return (f"(?<={fixed})" if fixed else "") + kept + f"(?:{inner})" + behind
