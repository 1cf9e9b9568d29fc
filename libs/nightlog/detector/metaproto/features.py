"""Features of patterns: the sentence vector and 80 structural features (`table.FEATURES`), relative to what is usual in the system.

Source: MetaProto, arXiv 2601.14336: encoder vector (384 here) and structural features of templates and sessions.
"""

from __future__ import annotations

import numpy as np

from nightlog.detector.metaproto.reference import Flat, Reference, relative, steps
from nightlog.detector.metaproto.table import NAMES
from nightlog.detector.metaproto.wording import wording
from nightlog.detector.patterns import Patterns

Columns = dict[str, np.ndarray]
USUAL, SELDOM, RARE, NEARLY_ALL, MANY = 0.5, 0.1, 0.01, 0.9, 0.8
BLOCK = 1024


def feature_names(dimensions: int) -> tuple[str, ...]:
    """Names of the columns of `features`, for vectors of so many dimensions."""
    return (*NAMES, *(f"vector_{i}" for i in range(dimensions)))


def features(patterns: Patterns, reference: Reference) -> np.ndarray:
    """80 structural features, then the vector less the mean session's: (n, 80 + d) float32, finite.

    `patterns` are over the templates of the reference. The mean is taken off since it tells systems apart, not sessions.
    """
    _, mean = _usual_vector(reference)
    flat = Flat.of(patterns)
    return np.hstack([structural(patterns, reference), pattern_vectors(flat, patterns.vectors) - mean]).astype(np.float32)


def structural(patterns: Patterns, reference: Reference) -> np.ndarray:
    """The 80 features of `table.FEATURES`, in this order: (n, 80) float32, finite.

    A pattern's row depends on the pattern and the reference alone.
    """
    own = _raw(Flat.of(patterns), patterns, reference)
    usual = own if patterns is reference.patterns else _raw(reference.flat, reference.patterns, reference)
    columns = []
    for name in NAMES:
        if name.endswith("_q") or name == "surprise_tail":
            raw = name if name in own else name.removesuffix("_q")
            columns.append(relative(own[raw], usual[raw], reference.weight))
        else:
            columns.append(own[name])
    return np.nan_to_num(np.stack(columns, axis=1) if columns else np.zeros((0, 0)), posinf=0.0, neginf=0.0).astype(np.float32)


def pattern_vectors(flat: Flat, vectors: np.ndarray) -> np.ndarray:
    """Mean of the template vectors of each pattern, weighted by steps of log2 count, of unit norm: (n, d)."""
    table = np.vstack([vectors, np.zeros((1, vectors.shape[1]), dtype=vectors.dtype)])
    sums = np.zeros((flat.n, vectors.shape[1]))
    np.add.at(sums, flat.pattern, table[flat.template] * flat.level[:, None])
    return np.asarray(sums / np.maximum(1e-9, np.linalg.norm(sums, axis=1, keepdims=True)))


def _usual_vector(reference: Reference) -> tuple[np.ndarray, np.ndarray]:
    vectors = pattern_vectors(reference.flat, reference.patterns.vectors)
    return vectors, (vectors * reference.weight[:, None]).sum(axis=0) / reference.total


def _raw(flat: Flat, patterns: Patterns, reference: Reference) -> Columns:
    """Every feature before it is put among the system's sessions."""
    share = np.append(reference.share, 1.0)
    surprise = _surprise(share, reference.total)
    near = _neighbours(flat, reference, surprise)
    return {
        **_shape(flat, reference),
        **_rarity(flat, reference),
        **_templates(flat, share, surprise),
        **_absent_and_pairs(flat, reference),
        **_counts(flat, reference),
        **{name: values for name, values in near.items() if name != "extra"},
        **_meaning(flat, patterns, reference),
        **_worded(flat, patterns, surprise, near["extra"]),
    }


def _surprise(share: np.ndarray, total: float) -> np.ndarray:
    """-log10 of a share, as if half a session more had been seen."""
    return np.asarray(-np.log10((np.maximum(0.0, share) * total + 0.5) / (total + 0.5)))


def _shape(flat: Flat, reference: Reference) -> Columns:
    def sizes(of: Flat) -> tuple[np.ndarray, np.ndarray]:
        return of.total(of.template >= 0), of.total(of.level)

    templates, events = sizes(flat)
    share = flat.level / np.maximum(1, events[flat.pattern])
    entropy = flat.total(-share * np.log(np.maximum(1e-9, share)))
    usual_templates, usual_events = (_median(size, reference.weight) for size in sizes(reference.flat))
    return {
        "templates": np.log1p(templates),
        "templates_q": templates,
        "templates_off": np.log((templates + 1) / (usual_templates + 1)),
        "events_q": events,
        "events_off": np.log((events + 1) / (usual_events + 1)),
        "entropy_q": entropy,
        "evenness": np.where(templates > 1, entropy / np.log(np.maximum(2, templates)), 1.0),
        "largest_share": flat.most(share),
        "single_share": flat.mean(flat.level == 1),
        "strongest_q": flat.most(flat.level),
    }


def _rarity(flat: Flat, reference: Reference) -> Columns:
    keys, sets = flat.keys(with_levels=True), flat.keys(with_levels=False)
    own = np.array([reference.pattern_sessions.get(key, 0.0) for key in keys])
    same = np.array([reference.set_sessions.get(key, 0.0) for key in sets])
    patterns = np.sort(list(reference.pattern_sessions.values()))
    of_set = dict(zip(reference.flat.keys(with_levels=True), reference.flat.keys(with_levels=False), strict=True))
    size: dict[bytes, int] = {}
    for name in of_set.values():
        size[name] = size.get(name, 0) + 1
    total = reference.total
    return {
        "pattern_surprise": _surprise(own / total, total),
        "pattern_tail": _surprise(_at_most(own, patterns) / total, total),
        "set_surprise": _surprise(same / total, total),
        "set_tail": _surprise(_at_most(same, np.sort(list(reference.set_sessions.values()))) / total, total),
        "in_set_surprise": np.log10((same + 0.5) / (own + 0.5)),
        "pattern_rank": 1 - np.searchsorted(patterns, own, "right") / max(1, len(patterns)),
        "set_patterns": np.log1p([size.get(name, 0) for name in sets]),
    }


def _templates(flat: Flat, share: np.ndarray, surprise: np.ndarray) -> Columns:
    each, odd = share[flat.template], surprise[flat.template]
    return {
        "share_least": flat.least(each),
        "share_mean": flat.mean(each),
        "share_most": flat.most(each),
        "surprise_most": flat.most(odd),
        "surprise_mean": flat.mean(odd),
        "surprise_sum": np.log1p(flat.total(odd)),
        "surprise_events": flat.total(odd * flat.level) / np.maximum(1, flat.total(flat.level)),
        "surprise_tail": flat.most(odd),
        "rare_templates": np.log1p(flat.total(each < RARE)),
        "rare_share": flat.mean(each < RARE),
        "seldom_share": flat.mean(each < SELDOM),
        "usual_share": flat.mean(each >= USUAL),
    }


def _absent_and_pairs(flat: Flat, reference: Reference) -> Columns:
    """Return what a pattern lacks, and how usual it is that its templates come together; one pattern at a time, as they differ in size."""
    share, joint, total = reference.share, reference.joint, reference.total
    given = joint / np.maximum(1e-9, share)[:, None]
    rows = np.zeros((flat.n, 14))
    lacking = -np.log10(np.maximum(0.5 / total, 1 - share))
    ends = np.append(flat.starts, len(flat.template))[1:]
    for i, (start, end) in enumerate(zip(flat.starts, ends, strict=True)):
        has = flat.template[start:end]
        has = has[has >= 0]
        absent = np.ones(len(share), dtype=bool)
        absent[has] = False
        if absent.any():
            expected = float(given[np.ix_(has, absent)].max()) if len(has) else 0.0
            rows[i, :8] = (
                share[absent].max(),
                lacking[absent].max(),
                np.log1p(lacking[absent].sum()),
                np.log1p((share[absent] >= NEARLY_ALL).sum()),
                np.log1p((share[absent] >= USUAL).sum()),
                (share[absent] >= USUAL).sum() / max(1, (share >= USUAL).sum()),
                expected,
                -np.log10(max(0.5 / total, 1 - expected)),
            )
        pairs = ~np.eye(len(has), dtype=bool)
        if len(has) > 1:
            both = joint[np.ix_(has, has)][pairs]
            chance = np.outer(share[has], share[has])[pairs]
            lift = np.log10((both * total + 0.5) / (chance * total + 0.5))
            odd = _surprise(both, total)
            together = given[np.ix_(has, has)][pairs]
            rows[i, 8:] = together.min(), together.mean(), odd.max(), odd.mean(), lift.min(), lift.mean()
        else:
            rows[i, 8:10] = 1.0
    named = ("most", "surprise", "sum", "usual", "half", "share", "given", "given_surprise")
    paired = ("least", "mean", "surprise", "surprise_mean", "lift_least", "lift_mean")
    names = [f"absent_{name}" for name in named] + [f"pair_{name}" for name in paired]
    return dict(zip(names, rows.T, strict=True))


def _counts(flat: Flat, reference: Reference) -> Columns:
    usual = np.append(reference.level_mean, 0.0)[flat.template]
    off = np.where(usual > 0, flat.level - usual, 0.0)
    known = np.vstack([reference.level_share, np.zeros((1, reference.level_share.shape[1]))])
    inside = np.minimum(flat.level, known.shape[1] - 1)
    seen = np.where(inside == flat.level, known[flat.template, inside], 0.0)
    sessions = np.append(reference.share, 0.0)[flat.template] * reference.total
    odd = np.where(flat.template >= 0, -np.log10((seen * sessions + 0.5) / (sessions + 0.5)), 0.0)
    return {
        "count_off_most": flat.most(abs(off)),
        "count_off_mean": flat.mean(abs(off)),
        "count_above": np.maximum(0.0, flat.most(off)),
        "count_below": np.maximum(0.0, -flat.least(off)),
        "count_surprise_most": flat.most(odd),
        "count_surprise_mean": flat.mean(odd),
        "count_surprise_sum": np.log1p(flat.total(odd)),
    }


def _neighbours(flat: Flat, reference: Reference, surprise: np.ndarray) -> Columns:
    """Distances to the frequent patterns; `extra` (events,) tells which templates the nearest frequent pattern lacks."""
    n_templates = len(reference.share)
    n_levels = reference.head.shape[1] // max(1, n_templates)
    own = steps(flat, n_templates, n_levels)
    beyond = np.maximum(0, flat.level - n_levels) * (flat.template >= 0)
    head, weight = reference.head, reference.head_sessions
    covered = np.cumsum(weight) - weight
    frequent, top = covered < MANY * reference.total, covered < USUAL * reference.total
    size, head_size = own.sum(axis=1) + flat.total(beyond), head.sum(axis=1)
    common = own @ head.T
    distance = size[:, None] + head_size[None, :] - 2 * common
    other = np.where(distance > 0, distance, np.inf).min(axis=1, initial=np.inf)
    if not frequent.any():
        zero = np.zeros(flat.n)
        names = ("head", "head_q", "top", "any", "mean_q", "extra", "lack", "extra_surprise", "lack_surprise", "overlap", "ratio")
        return {f"near_{name}": zero for name in names} | {"extra": flat.template >= 0}
    # among patterns as near, the one with most sessions: the head is in this order; a pattern is not its own neighbour
    nearest = np.where((distance > 0) & frequent, distance, np.inf).argmin(axis=1)
    itself = (distance == 0) & frequent
    at = np.where(itself.any(axis=1), itself.argmax(axis=1), nearest)
    shared = np.take_along_axis(common, at[:, None], axis=1)[:, 0]
    near_size = head_size[at]
    near_first, own_first = head[at, :n_templates], own[:, :n_templates]
    extra = (flat.template >= 0) & (near_first[flat.pattern, np.maximum(0, flat.template)] == 0) if n_templates else flat.template >= 0
    lacking = np.where((near_first > 0) & (own_first == 0), -np.log10(np.maximum(0.5 / reference.total, 1 - reference.share)), 0.0)
    sessions = np.array([reference.pattern_sessions.get(key, 0.0) for key in flat.keys(with_levels=True)])
    return {
        "near_head": np.log1p(size + near_size - 2 * shared),
        "near_head_q": size + near_size - 2 * shared,
        "near_top": np.log1p(distance[:, top].min(axis=1)),
        "near_any": np.log1p(np.where(np.isfinite(other), other, 0.0)),
        "near_mean_q": distance @ weight / max(1.0, weight.sum()),
        "near_extra": np.log1p(size - shared),
        "near_lack": np.log1p(near_size - shared),
        "near_extra_surprise": flat.most(np.where(extra, surprise[flat.template], 0.0)),
        "near_lack_surprise": lacking.max(axis=1, initial=0.0),
        "near_overlap": shared / np.maximum(1.0, size + near_size - shared),
        "near_ratio": np.log10((weight[at] + 0.5) / (sessions + 0.5)),
        "extra": extra,
    }


def _meaning(flat: Flat, patterns: Patterns, reference: Reference) -> Columns:
    vectors = pattern_vectors(flat, patterns.vectors)
    usual, mean = _usual_vector(reference)
    # by rows, not as a matrix product: its rounding would depend on the other patterns, and a quantile jumps where equal values differ
    to_mean = (vectors * (mean / max(1e-9, float(np.linalg.norm(mean))))).sum(axis=1)
    order = np.lexsort((np.arange(len(usual)), -reference.weight))
    frequent = usual[order[(np.cumsum(reference.weight[order]) - reference.weight[order]) < MANY * reference.total]]
    table = np.vstack([patterns.vectors, np.zeros((1, patterns.vectors.shape[1]), dtype=np.float32)])
    ordinary = patterns.vectors[reference.share >= USUAL]
    like = np.append((patterns.vectors @ ordinary.T).max(axis=1, initial=-1.0), 1.0) if len(ordinary) else np.zeros(len(table))
    away = 1 - (table[flat.template] * vectors[flat.pattern]).sum(axis=1)
    head = np.concatenate([(vectors[i : i + BLOCK] @ frequent[:512].T).max(axis=1, initial=-1.0) for i in range(0, max(1, flat.n), BLOCK)])
    return {
        "vector_mean_cosine": to_mean,
        "vector_mean_q": to_mean,
        "vector_head_cosine": head,
        "vector_least_usual": flat.least(like[flat.template]),
        "vector_spread": flat.mean(away),
    }


def _worded(flat: Flat, patterns: Patterns, surprise: np.ndarray, extra: np.ndarray) -> Columns:
    words = {name: np.append(column, 0.0)[flat.template] for name, column in wording(patterns.texts).items()}
    odd, severity = surprise[flat.template], words["severity"]
    return {
        "length_q": flat.mean(words["length"]),
        "length_most_q": flat.most(words["length"]),
        "wildcards_q": flat.mean(words["wildcards"]),
        "digits_q": flat.mean(words["digits"]),
        "capitals_q": flat.mean(words["capitals"]),
        "punctuation_q": flat.mean(words["punctuation"]),
        "severity_most": flat.most(severity),
        "severity_q": flat.total(severity * flat.level) / np.maximum(1, flat.total(flat.level)),
        "severity_templates": np.log1p(flat.total(severity >= 2)),
        "severity_rare": flat.most(severity * odd),
        "severity_extra": flat.most(np.where(extra, severity, 0.0)),
        "negation_rare": flat.most(words["negation"] * odd),
        "closing_balance": flat.mean(words["closing"] - words["opening"]),
        "closing_balance_q": flat.mean(words["closing"] - words["opening"]),
    }


def _at_most(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """For each value the sum of the known (sorted) that are no larger."""
    return np.concatenate([[0.0], np.cumsum(known)])[np.searchsorted(known, values, "right")]


def _median(values: np.ndarray, weight: np.ndarray) -> float:
    if not len(values):
        return 0.0
    order = np.argsort(values, kind="stable")
    sums = np.cumsum(weight[order])
    return float(values[order[min(len(values) - 1, int(np.searchsorted(sums, sums[-1] / 2)))]])
