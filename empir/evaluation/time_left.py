"""How long the attacks that are still to come will take, by those that have run."""

from typing import Optional, Sequence, Tuple

import numpy as np

from empir.evaluation.specs import AttackSpec

#: The attack that most of an evaluation consists of.
MAIN = "apgd"


def seconds_left(
    done: Sequence[Tuple[AttackSpec, int, float]], ahead: Sequence[Tuple[AttackSpec, int]]
) -> Optional[float]:
    """About how many seconds the attacks ahead take, or None if nothing can be said yet.

    An attack takes time for its graph, whatever the number of images, and time for each step on
    each image. On few images the former is nearly all, so that a pace per image alone would be many
    times too slow. Both are fitted to what was measured, by least squares.

    Args:
      done: attacks that have run, in order: what each was, its number of images, its seconds.
      ahead: attacks that are to come, in order, with their numbers of images.

    Returns:
      Seconds; None before a first Auto-PGD has been measured, if some are ahead, as the cheap
      attacks in front of it say little about it.
    """
    measured = [spec.attack for spec, images, _ in done if images]
    waits = MAIN in [spec.attack for spec, _ in ahead] and MAIN not in measured
    if waits or not measured:
        return None
    seconds = np.array([taken for _, _, taken in done])
    per_graph, per_step = _fit(_costs([attack[:2] for attack in done]), seconds)
    return float(np.dot(_costs(ahead), (per_graph, per_step)).sum())


def _costs(attacks):
    """Float [n, 2]: whether an attack needs a graph of its own, and its work in steps."""
    rows, last = [], None
    for spec, images in attacks:
        key = spec.graph_key() if images else last
        rows.append((float(key != last), spec.work(images)))
        last = key
    return np.array(rows).reshape(-1, 2)


def _fit(costs, seconds):
    """The two factors, neither negative, that times the costs come closest to the seconds."""
    if len(np.unique(costs[costs.any(axis=1)], axis=0)) == 1:  # nothing tells the two apart
        return np.array([0.0, seconds.sum() / costs[:, 1].sum()])
    factors = np.linalg.lstsq(costs, seconds, rcond=None)[0]
    if factors[0] >= 0 <= factors[1]:
        return factors
    # One of the two explains all.
    alone = []
    for column in (0, 1):
        square = np.dot(costs[:, column], costs[:, column])
        factors = np.zeros(2)
        factors[column] = np.dot(costs[:, column], seconds) / square
        alone.append(factors)
    return min(alone, key=lambda factors: np.square(costs @ factors - seconds).sum())
