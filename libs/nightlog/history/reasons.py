"""Each channel's reason in words: the templates that make a pattern unusual, with their shares of sessions."""

from __future__ import annotations

import numpy as np

from nightlog.history.channels import Channels, Values, rows_of
from nightlog.history.reference import Multisets
from nightlog.sanitize import shortened

LONGEST = 120
SHOWN = 0.2  # a channel with a smaller value gives no reason
FEW = 20

Reasons = list[tuple[str, str]]


def reasons_of(channels: Channels, patterns: Multisets, values: Values, i: int, strength: dict[str, float]) -> Reasons:
    """Return (channel, text) of pattern i, the strongest channel first; a text is given once.

    Args: strength, the channel's value of the pattern: severity in [0, 1], unlikeness from 0.
    """
    writers = {"words": _words, "level": _level, "rarest": _rarest, "tree": _tree, "bern": _counts, "near": _near}
    order = sorted(writers, key=lambda name: -(4 * strength[name] if name in ("words", "level") else strength[name]))
    found: Reasons = []
    for name in order:
        text = writers[name](channels, patterns, values, i) if strength[name] >= SHOWN else None
        if text is not None and text not in [known for _, known in found]:
            found.append((name, text))
    return found


def share(count: float, total: float) -> str:
    """Return a share of sessions in percent, or the count if the share is too small for that.

    >>> share(998, 1000), share(2, 100_000), share(0, 10)
    ('99.8 % of sessions', '2 of 100,000 sessions', 'none of 10 sessions')
    """
    percent = 100 * count / total if total else 0.0
    if percent < 0.1:
        return f"{round(count):,} of {round(total):,} sessions" if round(count) else f"none of {round(total):,} sessions"
    shown = f"{min(percent, 99.9) if round(count) < round(total) else 100:.1f}".removesuffix(".0")
    return f"{shown} % of sessions"


def _text(channels: Channels, patterns: Multisets, template: int) -> str:
    name = patterns.template_ids[template]
    text = " ".join(channels.templates.text.get(name, name).split())
    return f"`{shortened(text, LONGEST)}`"


def _seen(channels: Channels, template: int) -> str:
    count = channels.n_with[min(template, len(channels.n_with) - 1)]
    return f"which {share(count, channels.n)} have" if round(count) else "which no session had before"


def _rarest(channels: Channels, patterns: Multisets, values: Values, i: int) -> str | None:
    entry = values.entry["rarest"][i]
    if entry < 0:
        return None
    template = int(patterns.template[entry])
    count = round(channels.n_with[min(template, len(channels.n_with) - 1)])
    if 0 < count <= FEW:
        return f"has {_text(channels, patterns, template)}, which only {count} of {round(channels.n):,} sessions have"
    return f"has {_text(channels, patterns, template)}, {_seen(channels, template)}"


def _words(channels: Channels, patterns: Multisets, values: Values, i: int) -> str | None:
    entry = values.entry["words"][i]
    if entry < 0:
        return None
    template = int(patterns.template[entry])
    return f"reports trouble: {_text(channels, patterns, template)}, {_seen(channels, template)}"


def _level(channels: Channels, patterns: Multisets, values: Values, i: int) -> str | None:
    entry = values.entry["level"][i]
    if entry < 0:
        return None
    template = int(patterns.template[entry])
    level = channels.templates.level.get(patterns.template_ids[template], "")
    count = channels.n_with[min(template, len(channels.n_with) - 1)]
    seen = f"seen in {share(count, channels.n)}" if round(count) else "never seen before"
    return f"level {level}: {_text(channels, patterns, template)}, {seen}"


def _counts(channels: Channels, patterns: Multisets, values: Values, i: int) -> str | None:
    entry = values.entry["bern"][i]
    if entry < 0:
        return None
    template, level = int(patterns.template[entry]), int(patterns.level[entry])
    if level < 2 or template >= len(channels.n_with) - 1:
        return None
    own = (channels.known.template == template) & (channels.known.level == level)
    count = float(channels.sessions[channels.known.row[own]].sum())
    times = f"{1 << (level - 1):,} to {(1 << level) - 1:,} times"
    return f"has {_text(channels, patterns, template)} {times}, as {share(count, channels.n)} do"


def _tree(channels: Channels, patterns: Multisets, values: Values, i: int) -> str | None:
    if not len(channels.paired):
        return None
    presence = rows_of(patterns, i, i + 1).dense(channels.paired)
    node = int(np.argmax(channels.tree.costs(presence)[0]))
    parent = int(channels.tree.parent[node])
    if parent < 0:
        return None
    has, parent_has = bool(presence[0, node]), bool(presence[0, parent])
    like = channels.known_presence[:, parent] == parent_has
    count, total = (float(channels.sessions[rows].sum()) for rows in (like & channels.known_presence[:, node], like))
    own, other = (_text(channels, patterns, int(channels.paired[each])) for each in (node, parent))
    condition = f"{share(count, total)} {'with' if parent_has else 'without'} {other}"
    return f"{'has' if has else 'lacks'} {own}, which {condition} have"


def _near(channels: Channels, patterns: Multisets, values: Values, i: int) -> str | None:
    row = rows_of(patterns, i, i + 1)
    anchor = int(channels.radius(row)[1][0])
    if anchor < 0:
        return None
    other = rows_of(channels.anchors, anchor, anchor + 1)
    templates = np.union1d(row.template, other.template)
    weight = channels.distance_weight[np.minimum(templates, len(channels.n_with) - 1)]
    ordered = templates[np.argsort(-weight, kind="stable")].tolist()
    parts = []
    for verb, mine, theirs in (("also has", row, other), ("lacks", other, row)):
        only = [t for t in ordered if t in mine.template and t not in theirs.template][:2]
        if only:
            parts.append(f"{verb} {' and '.join(_text(channels, patterns, t) for t in only)}")
    return f"compared with similar sessions, {', and '.join(parts)}" if parts else None
