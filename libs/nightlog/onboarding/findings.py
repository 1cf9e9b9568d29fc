"""Findings of a trial: each says what looks wrong and what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from nightlog.onboarding.columns import SEVERITY
from nightlog.onboarding.days import Origin, doubts
from nightlog.onboarding.named_values import LABEL_NAME
from nightlog.onboarding.propose import Proposal
from nightlog.onboarding.sample import Sample
from nightlog.onboarding.trial import Event, Trial
from nightlog.quality.outliers import LOOSE
from nightlog.templates.miner import is_word

COVERED = 0.9  # of the records must belong to a session, else it is a finding
NOTHING = {"-", "0", "normal", "false", "none", "no", "ok", "benign", "null", "n/a"}


def shorten(text: str, n: int = 120) -> str:
    """A text's beginning, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= n else line[: n - 1] + "…"


def labels_in(events: Sequence[Event], pattern: str, session_field: str) -> list[str]:
    """Return the fields that may be labels: of a few values one dominates and says "nothing", or the field stands before everything else.

    On a day without anomalies a label is "nothing" in all lines: so is a field with one value that stands first or has a label's name.
    """
    found = []
    names = list(dict.fromkeys(name for event in events for name in event.fields))
    for name in names:
        if name in ("message", "level", session_field) or name.startswith("time"):
            continue
        counts = Counter(event.fields.get(name, "") for event in events)
        value, n = counts.most_common(1)[0]
        severe = sum(SEVERITY.fullmatch(each) is not None for each in counts) >= 0.5 * len(counts)
        # A column that is mostly empty is one that lines lack, not one that says "nothing".
        if len(counts) > 50 or n < 0.6 * len(events) or severe or value == "":
            continue
        first = pattern.lstrip(" *").startswith(f"(?P<{name}>")
        nothing = value.lower() in NOTHING
        if (nothing or first) if len(counts) > 1 else (nothing and (first or LABEL_NAME.fullmatch(name))):
            others = "".join(f", {v} {c:,}" for v, c in counts.most_common(4)[1:]) or " in all records"
            advice = (
                "cut it off by [labels] pattern = '(?P<label>\\S+) ' and take it out of the header"
                if first
                else "keep it out of the message; a file of labels goes to [labels] file"
            )
            found.append(f"the field `{name}` looks like a label or an alert tag ({value} {n:,}{others}): if it is one, {advice}")
    return found


def of_sample(sample: Sample) -> list[str]:
    """Return what is wrong with the lines themselves."""
    found, n = [], len(sample.lines)
    if sample.n_control > 0.01 * n:
        found.append(f"not text: {sample.n_control / n:.0%} of the lines hold bytes that no text has; is this a log file?")
    elif sample.n_replaced:
        found.append(f"{sample.n_replaced:,} lines hold bytes that are not UTF-8; they are replaced")
    if (longest := max(map(len, sample.lines))) > 8192:
        found.append(f"the longest line has {longest:,} characters; of a message the first 8,192 are used")
    return found


def of_parsing(trial: Trial) -> list[str]:
    """Return what is wrong with how records are split and timed."""
    found = []
    joined = [event for event in trial.matched if event.record.n_lines > 1]
    if trial.system.record is not None and joined:
        lines = sum(event.record.n_lines - 1 for event in joined)
        longest = max(joined, key=lambda event: event.record.n_lines)
        found.append(
            f"{len(joined):,} records span lines ({lines:,} lines are joined to the one before, the longest record has "
            f"{longest.record.n_lines:,}); for example: {shorten(longest.record.text)}"
        )
    limit = trial.system.gates.swallowed_share
    if limit < 1 and trial.swallowed_share > LOOSE:
        stop = f"; at more than {limit:.0%} the night stops at its gate" if trial.swallowed_share > limit else ""
        found.append(
            f"{trial.swallowed_share:.1%} of the lines were joined to the record before them but do not look like its continuation{stop}: "
            "if they are records, widen [record] start or add [[variants]]; if they are none, raise swallowed_share under [gates]"
        )
    missed = [event for event in trial.events if not event.matched]
    if missed:
        share = 1 - trial.matched_share
        stop = "; at more than 20 % the night stops at its gate" if share > 0.2 else ""
        found.append(f"{share:.1%} of the lines do not match the header{stop}; the first: {shorten(missed[0].record.text)}")
    if trial.system.timestamp is None:
        found.append("no time stamp was found: lines take the day of the night as their time")
    elif trial.matched and trial.timed_share < 1:
        late = next(event for event in trial.matched if event.at is None)
        found.append(f"{1 - trial.timed_share:.1%} of the records have no time that can be read, for example: {shorten(late.record.text)}")
    elif "{ds_year}" in trial.system.timestamp.value:
        found.append("the stamps have no year: the night's is taken")
    elif "{ds}" in trial.system.timestamp.value:
        found.append("the stamps have no day: the night's is taken")
    return found


def of_templates(trial: Trial) -> list[str]:
    """Return what is wrong with the templates."""
    found, n = [], len(trial.matched)
    by = trial.by_template
    for template, count in by.most_common(3):
        words = sum(map(is_word, template.split()))
        if count > 0.2 * n and words <= 1 and len(by) > 1:
            found.append(
                f"a template swallows {count / n:.0%} of the records and says next to nothing: {shorten(template)}; "
                "a mask or another header helps"
            )
    if n >= 200 and len(by) < 3:
        found.append(f"only {len(by)} templates: the message may be too short, or it is all values")
    if len(by) > max(100, 0.25 * n):
        found.append(f"{len(by):,} templates for {n:,} records: messages hardly repeat; masks for what varies in them help")
    return found


def of_sessions(trial: Trial) -> list[str]:
    """Return what is wrong with the sessions."""
    found, n = [], len(trial.sessions)
    if trial.matched and trial.in_session_share < COVERED:
        other = next(event for event in trial.matched if not event.ids)
        found.append(
            f"{1 - trial.in_session_share:.0%} of the records have no id and belong to no session: signals (new templates, rates) see "
            "them, but no verdict does; [session] covers them by another id or by windows of time; for example: "
            f"{shorten(other.record.text)}"
        )
    if n < 20:
        found.append(f"only {n} sessions in the sample: too few to tell what is usual; a longer sample or shorter windows help")
    alone = sum(len(session.events) == 1 for session in trial.sessions.values())
    if n >= 20 and alone > 0.8 * n:
        found.append(f"{alone / n:.0%} of the sessions are one record: what belongs together may have another id")
    if n >= 50 and len(trial.questions) > 0.7 * n:
        found.append(
            f"{len(trial.questions):,} questions for {n:,} sessions: hardly any two are alike, "
            "which makes the LLM expensive; shorter sessions help"
        )
    return found


def findings(sample: Sample, proposal: Proposal, origin: Origin) -> list[str]:
    """All that looks wrong, the most fundamental first."""
    trial = proposal.trial
    return [
        *of_sample(sample),
        *proposal.notes,
        *of_parsing(trial),
        *doubts(trial, origin),
        *of_templates(trial),
        *of_sessions(trial),
        *labels_in(proposal.first, trial.system.header.pattern, trial.system.session.field),
    ]
