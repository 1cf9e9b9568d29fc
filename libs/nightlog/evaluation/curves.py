"""Curves from what a cell stored: (probability, anomalous sessions, normal sessions) by falling probability."""

from __future__ import annotations

from collections.abc import Iterable

from nightlog.evaluation.metrics import Curve

BINS = 10
STEP = 0.002


def pooled(curves: Iterable[Curve]) -> Curve:
    """The sessions of several seeds together."""
    cells: dict[float, list[int]] = {}
    for curve in curves:
        for probability, anomalous, normal in curve:
            cell = cells.setdefault(probability, [0, 0])
            cell[0] += anomalous
            cell[1] += normal
    return [(probability, anomalous, normal) for probability, (anomalous, normal) in sorted(cells.items(), reverse=True)]


def precision_recall(curve: Curve) -> list[tuple[float, float]]:
    """(recall, precision) at each threshold from the highest down, without points that nobody could tell apart.

    >>> precision_recall([(0.9, 1, 0), (0.1, 1, 2)])
    [(0.5, 1.0), (1.0, 0.5)]
    """
    total = sum(anomalous for _, anomalous, _ in curve)
    points: list[tuple[float, float]] = []
    true = flagged = 0
    for number, (_, anomalous, normal) in enumerate(curve):
        true, flagged = true + anomalous, flagged + anomalous + normal
        if not total or not flagged:
            continue
        point = (true / total, true / flagged)
        far = not points or max(abs(point[0] - points[-1][0]), abs(point[1] - points[-1][1])) >= STEP
        if far or number == len(curve) - 1:
            points.append(point)
    return points


def steps(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """A precision–recall curve as average precision counts it: what lies between two thresholds has the precision of the lower one.

    >>> steps([(0.5, 1.0), (1.0, 0.5)])
    [(0.0, 1.0), (0.5, 1.0), (0.5, 0.5), (1.0, 0.5)]
    """
    before = [0.0, *(recall for recall, _ in points)]
    corners = [((start, precision), (recall, precision)) for start, (recall, precision) in zip(before, points, strict=False)]
    return [corner for pair in corners for corner in pair]


def reliability(curve: Curve) -> list[tuple[float, float]]:
    """(mean probability, share of anomalous sessions) in ten equal bins of probability; empty bins are left out.

    >>> reliability([(0.95, 9, 1), (0.05, 0, 5)])
    [(0.05, 0.0), (0.95, 0.9)]
    """
    sums = [[0.0, 0, 0] for _ in range(BINS)]
    for probability, anomalous, normal in curve:
        own = sums[min(BINS - 1, int(probability * BINS))]
        own[0] += probability * (anomalous + normal)
        own[1] += anomalous
        own[2] += anomalous + normal
    return [(total / n, anomalous / n) for total, anomalous, n in sums if n]
