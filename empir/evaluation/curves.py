"""Curves: accuracy against radius, iterations and restarts; success against CW's distance.

All are of the first `trials.SAMPLE` images, except CW's, of a quarter as many.
"""

import numpy as np

from empir.evaluation import trials


def trials_of(setting, effort: trials.Effort) -> list:
    """The trials of all curves of a `rounds.Setting`; those of larger radii may not be needed."""
    counts = trials.doubled(trials.ITERATIONS, effort.nb_iter)
    starts = trials.doubled(trials.RESTARTS, effort.restarts)
    radii = [setting.eps * factor for factor in trials.RADII if factor != 1]
    return [
        *(trials.radius(eps) for eps in radii if eps <= setting.whole),
        *(trials.iterations(count) for count in counts),
        trials.restarts(starts[-1]),
        trials.distortion(),
    ]


def measure(evaluation, effort: trials.Effort) -> dict:
    """All curves of a `suite.Evaluation` whose suite has been run: name -> points [x, share]."""
    return {
        "radius": _radius(evaluation),
        "steps": _iterations(evaluation, trials.doubled(trials.ITERATIONS, effort.nb_iter)),
        "restarts": _restarts(evaluation, trials.doubled(trials.RESTARTS, effort.restarts)),
        "distortion": _distortion(evaluation),
    }


def _radius(evaluation):
    """[radius, accuracy] from 0 to where it is zero, or the whole range.

    What breaks an image at a radius breaks it at every larger one, so only images that are left at
    all smaller radii are attacked; at the evaluation's radius everything that it found counts.
    """
    setting = evaluation.setting
    labels = setting.data.labels[: trials.SAMPLE]
    left = evaluation.clean["decision"][: len(labels)] == labels
    points, clean = [[0.0, float(left.mean())]], left.copy()
    for factor in trials.RADII:
        eps = setting.eps * factor
        if eps > setting.whole or not left.any():
            break
        if factor == 1:
            left &= evaluation.correct[: len(labels)]
        else:
            found = evaluation.run(trials.radius(eps), np.flatnonzero(left))
            left[found["row"][found["success"]]] = False
        if len(points) == 1:
            points += _smaller(evaluation, eps, clean, left)
        points.append([eps, float(left.mean())])
    return points


def _smaller(evaluation, eps, clean, left):
    """Points below the smallest radius of a curve, halved until half of the images are left.

    A curve that has lost most at its first point shows nothing of the radii at which the network
    withstands anything. What a radius leaves, smaller ones leave: the others are attacked again.

    Args:
      evaluation: a `suite.Evaluation`.
      eps: the smallest radius so far.
      clean, left: bool [n], images that are correct when clean, and at that radius.
    """
    points = []
    for _ in range(trials.HALVINGS):
        if 2 * left.sum() >= clean.sum():
            break
        eps /= 2
        found = evaluation.run(trials.radius(eps), np.flatnonzero(clean & ~left))
        left = clean.copy()
        left[found["row"][found["success"]]] = False
        points.insert(0, [eps, float(left.mean())])
    return points


def _iterations(evaluation, counts):
    """[iterations, accuracy]: runs of their own, as an Auto-PGD's steps depend on their number."""
    points = []
    for count in counts:
        found = evaluation.run(trials.iterations(count))
        points.append([count, float(1 - found["success"].mean())])
    return points


def _restarts(evaluation, counts):
    """[random starts, accuracy]."""
    found = evaluation.run(trials.restarts(counts[-1]))
    return [
        [count, float(1 - (found["success"] & (found["rounds"] <= count)).mean())]
        for count in counts
    ]


def _distortion(evaluation):
    """[L2 distance, share of images with an adversarial image at most that far], a step each."""
    found = evaluation.run(trials.distortion())
    distances = np.sort(found["l2"][found["success"]])
    count = len(found["success"])
    return [[float(far), (number + 1) / count] for number, far in enumerate(distances)]
