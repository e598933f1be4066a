"""Curves: accuracy against radius, iterations and restarts; success against CW's distance.

They are of the first `suites.SAMPLE` images, but for CW's, which is of a quarter as many, and for
that against iterations, which judges convergence and is of `suites.CONVERGENCE_SAMPLE`.
"""

import numpy as np

from empir.evaluation import suites
from empir.evaluation.checks import has_converged
from empir.evaluation.views import ViewSpec


def specs_of(setting, effort: suites.Effort, own: ViewSpec) -> list:
    """The attacks of all curves of a `Setting`; those of larger radii may not be needed.

    Args:
      setting, effort: of the evaluation.
      own: see `suites.own_view`.
    """
    counts = suites.doubled(suites.ITERATIONS, effort.nb_iter)
    starts = suites.doubled(suites.RESTARTS, effort.restarts)
    radii = [setting.threat.eps * factor for factor in suites.RADII]
    return [
        *(suites.radius(eps, own) for eps in radii if eps <= setting.largest_radius),
        *(suites.iterations(count, own) for count in counts),
        suites.restarts(starts[-1], own),
        suites.distortion(setting.data.clip_range),
    ]


def measure(evaluation, effort: suites.Effort, own: ViewSpec) -> dict:
    """All curves of a `suite.Evaluation` after its suite: name -> points [x, share]."""
    return {
        "radius": radius(evaluation, own),
        "steps": iterations(evaluation, own, suites.doubled(suites.ITERATIONS, effort.nb_iter)),
        "restarts": _restarts(evaluation, own, suites.doubled(suites.RESTARTS, effort.restarts)),
        "distortion": _distortion(evaluation),
    }


def radius(evaluation, own: ViewSpec) -> list:
    """Points [radius, accuracy] from 0 to where it is zero, or the whole range.

    An image that is misclassified at a radius is so at every larger one, so only the images that
    remain at all smaller radii are attacked. Every point is of the same one attack, so that the
    points can be compared; at the evaluation's radius the whole suite finds more.
    """
    setting = evaluation.setting
    labels = setting.data.labels[: suites.SAMPLE]
    remaining = evaluation.clean["decision"][: len(labels)] == labels
    points, clean = [[0.0, float(remaining.mean())]], remaining.copy()
    for factor in suites.RADII:
        eps = setting.threat.eps * factor
        if eps > setting.largest_radius or not remaining.any():
            break
        found = evaluation.run(suites.radius(eps, own), np.flatnonzero(remaining))
        remaining[found["row"][found["success"]]] = False
        if len(points) == 1:
            points += _smaller(evaluation, own, eps, clean, remaining)
        points.append([eps, float(remaining.mean())])
    return points


def _smaller(evaluation, own, eps, clean, remaining):
    """Points below the smallest radius of a curve, halved until half of the images remain.

    A curve that has lost most images at its first point shows nothing of the radii at which the
    network withstands attacks. An image that remains at a radius remains at every smaller one, so
    only the others are attacked.

    Args:
      evaluation: a `suite.Evaluation`.
      own: see `suites.own_view`.
      eps: the smallest radius so far.
      clean, remaining: bool [n], images that are correct when clean, and at that radius.
    """
    points = []
    for _ in range(suites.HALVINGS):
        if 2 * remaining.sum() >= clean.sum():
            break
        eps /= 2
        found = evaluation.run(suites.radius(eps, own), np.flatnonzero(clean & ~remaining))
        remaining = clean.copy()
        remaining[found["row"][found["success"]]] = False
        points.insert(0, [eps, float(remaining.mean())])
    return points


def iterations(evaluation, own: ViewSpec, counts, most: int = suites.MOST_ITERATIONS) -> list:
    """Points [iterations, accuracy], until the accuracy has converged.

    Each count is a run of its own, as an Auto-PGD's steps depend on their number. It attacks the
    images that remain at all smaller counts.

    Args:
      evaluation: a `suite.Evaluation`.
      own: see `suites.own_view`.
      counts: numbers of iterations, which are doubled further until the last doubling has changed
        little, or `most` is reached.
      most: see counts.
    """
    labels = evaluation.setting.data.labels[: suites.CONVERGENCE_SAMPLE]
    remaining = evaluation.clean["decision"][: len(labels)] == labels
    points, counts = [], list(counts)
    for count in counts:
        found = evaluation.run(suites.iterations(count, own), np.flatnonzero(remaining))
        remaining[found["row"][found["success"]]] = False
        points.append([count, float(remaining.mean())])
        if count == counts[-1] < most and not has_converged(points):
            counts.append(2 * count)
    return points


def _restarts(evaluation, own, counts):
    """[random starts, accuracy]."""
    found = evaluation.run(suites.restarts(counts[-1], own))
    return [
        [count, float(1 - (found["success"] & (found["rounds"] <= count)).mean())]
        for count in counts
    ]


def _distortion(evaluation):
    """[L2 distance, share of images with an adversarial image at most that far], a step each."""
    found = evaluation.run(suites.distortion(evaluation.setting.data.clip_range))
    distances = np.sort(found["l2"][found["success"]])
    count = len(found["success"])
    return [[float(far), (number + 1) / count] for number, far in enumerate(distances)]
