"""What an evaluation measures: distances and ranks per example, accuracies and means over them."""

import numpy as np

from empir.errors import EmpirError
from empir.models.ensemble import DECISION_RULES

#: Rules with a score per class, which top-5 accuracy needs; a vote has none.
SCORED_RULES = ("mean_logits", "mean_probs", "members")


def label_ranks(logits, labels, temperature: float = 1.0) -> dict:
    """Place of the true class among all by score, from 0, under each of `SCORED_RULES`.

    Of equal scores the lower class comes first, as in argmax.

    Args:
      logits: float32 [n, members, classes].
      labels: int64 [n].
      temperature: factor on the logits inside the softmax.

    Returns:
      int16 [n], of the members [n, members]; the label is among the top five where it is below 5.
    """
    scores = {
        "mean_logits": logits.mean(axis=1),
        "mean_probs": _mean_probabilities(logits, temperature),
        "members": logits,
    }
    ranks = {}
    for rule, score in scores.items():
        index = labels.reshape((-1,) + (1,) * (score.ndim - 1))
        true = np.take_along_axis(score, np.broadcast_to(index, score.shape[:-1] + (1,)), axis=-1)
        before = (score > true) | ((score == true) & (np.arange(score.shape[-1]) < index))
        ranks[rule] = before.sum(axis=-1).astype(np.int16)
    return ranks


def _mean_probabilities(logits, temperature):
    exponents = np.exp(temperature * (logits - logits.max(axis=2, keepdims=True)))
    return (exponents / exponents.sum(axis=2, keepdims=True)).mean(axis=1)


def margins(logits, labels, rule: str, temperature: float = 1.0):
    """Lead of the best wrong class over the true one where a rule decides, float32 [n].

    It is that of the mean logits, of the logarithm of the mean probabilities, or, for a vote, of
    the member with which a majority is wrong. It is positive where the decision is wrong, but for
    votes of members that all differ.

    Args:
      logits: float32 [n, members, classes].
      labels: int64 [n].
      rule: of `DECISION_RULES`.
      temperature: factor on the logits inside the softmax.
    """
    scores = np.asarray(logits, np.float64)
    if rule == "mean_logits":
        scores = scores.mean(axis=1, keepdims=True)
    elif rule == "mean_probs":
        probabilities = _mean_probabilities(scores, temperature)[:, np.newaxis]
        scores = np.log(np.maximum(probabilities, np.finfo(np.float64).tiny))
    index = np.broadcast_to(np.reshape(labels, (-1, 1, 1)), scores.shape[:2] + (1,))
    true = np.take_along_axis(scores, index, axis=2)[:, :, 0]
    others = scores.copy()
    np.put_along_axis(others, index, -np.inf, axis=2)
    each = np.sort(others.max(axis=2) - true, axis=1)
    return each[:, (each.shape[1] - 1) // 2].astype(np.float32)


def distances(images, adversarial) -> dict:
    """Distances of each example, float32 [n]: l2, linf, and the share of values that changed.

    Args:
      images, adversarial: float32 [n, height, width, channels].
    """
    difference = (adversarial - images).reshape(len(images), -1)
    return {
        "l2": np.sqrt(np.sum(np.square(difference, dtype=np.float64), axis=1)).astype(np.float32),
        "linf": np.abs(difference).max(axis=1),
        "changed": np.mean(difference != 0, axis=1, dtype=np.float64).astype(np.float32),
    }


def require_valid(name: str, rows, clip_range, adversarial=None, attacked=None, clean=None):
    """Raise `EmpirError` that names the first example whose image or whose logits do not count.

    The class of logits that are NaN or infinite would be as if they were a decision.

    Args:
      name: of what gave them, for the message.
      rows: int [n], numbers of the examples.
      clip_range: smallest and largest value of an image.
      adversarial: float [n, height, width, channels], images; None = no check of these.
      attacked, clean: float [n, ...], logits of those and of clean images; None likewise.
    """
    low, high = clip_range
    problems = []
    if adversarial is not None:
        inside = (adversarial >= low) & (adversarial <= high)
        problems.append(("holds NaN or infinity", np.isfinite(adversarial)))
        problems.append(("leaves [%g, %g]" % (low, high), inside))
    if attacked is not None:
        problems.append(("has logits that are not finite", np.isfinite(attacked)))
    if clean is not None:
        problems.append(("is clean and has logits that are not finite", np.isfinite(clean)))
    for problem, sound in problems:
        refuse(name, rows, problem, ~sound.reshape(len(rows), -1).all(axis=1))


def refuse(name: str, rows, problem: str, bad):
    """Raise `EmpirError` that names the first of the examples `rows` that is bad, if one is."""
    if bad.any():
        first = rows[int(np.argmax(bad))]
        raise EmpirError("%s gave an invalid result: example %d %s" % (name, first, problem))


def measure(head: dict, columns, store, starts) -> dict:
    """Accuracies, mean distances and seconds over all chunks: the body of the record.

    Args:
      head: what is computed, see `single.Job.describe`.
      columns: names of the arrays, see `single.Job.columns`.
      store: its finished chunks, a `chunks.ChunkStore`.
      starts: index of each chunk's first example.
    """
    label = store.column("label", starts)

    def accuracy(name, rule, examples=None):
        predicted = store.column("%s_%s" % (name, rule), starts)
        right = predicted == (label if predicted.ndim == 1 else label[:, np.newaxis])
        return right[:examples].mean(axis=0).tolist()

    rules = {
        rule: {name: accuracy(name, rule) for name in ("clean", "adversarial")}
        for rule in DECISION_RULES
    }
    combine, num_examples = head["combine"], head["num_examples"]
    measured = {
        "clean_accuracy": rules[combine]["clean"],
        "adversarial_accuracy": rules[combine]["adversarial"],
        "accuracy": rules,
        "member_accuracy": [
            {"clean": clean, "adversarial": adversarial}
            for clean, adversarial in zip(
                accuracy("clean", "members"), accuracy("adversarial", "members")
            )
        ],
    }
    if "clean_rank_members" in columns:
        _add_top5(measured, store, starts)
    partial = num_examples % head["batch_size"]
    if partial and len(starts) > 1:
        # What the original reports of ImageNet (docs/original.md, Evaluation).
        full = {
            name + "_accuracy": accuracy(name, combine, num_examples - partial)
            for name in ("clean", "adversarial")
        }
        measured["full_batches_only"] = dict(full, num_examples=num_examples - partial)
    for key in ("l2", "linf"):
        measured["mean_" + key] = float(store.column(key, starts).mean(dtype=np.float64))
    measured["mean_changed"] = float(store.column("changed", starts).mean(dtype=np.float64))
    if "target" in columns:
        reached = store.column("adversarial_" + combine, starts) == store.column("target", starts)
        measured["targeted_success"] = float(reached.mean())
    clean, attack = store.column("seconds", starts).sum(axis=0).tolist()
    measured["seconds"] = {"clean": round(clean, 3), "attack": round(attack, 3)}
    return measured


def _add_top5(measured, store, starts):
    """Add top-5 accuracies beside the accuracies of the rules that have them, and the members'."""
    for name in ("clean", "adversarial"):
        top5 = {
            rule: np.mean(store.column("%s_rank_%s" % (name, rule), starts) < 5, axis=0).tolist()
            for rule in SCORED_RULES
        }
        for rule in SCORED_RULES[:2]:
            measured["accuracy"][rule][name + "_top5"] = top5[rule]
        for member, value in zip(measured["member_accuracy"], top5["members"]):
            member[name + "_top5"] = value
