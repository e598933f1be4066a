"""Runs attacks on chunks of images: restarts, targets, judging, and the finished chunks."""

import functools
import logging
from typing import Callable, List, Optional, Sequence

import numpy as np

from empir import attacks
from empir.errors import EmpirError
from empir.evaluation.graph import AttackGraph, Judge, Setting
from empir.evaluation.metrics import refuse, require_valid
from empir.evaluation.places import ChunkError, Each
from empir.evaluation.specs import DECIDED, DRAWN, EVERY, LIKELY, AttackSpec
from empir.models.ensemble import DECISION_RULES
from empir.records.chunks import ChunkStore
from empir.runtime import lines_above_bars, progress_bar

log = logging.getLogger(__name__)

#: Names of what is known of clean images.
CLEAN = ("decision", "members", *DECISION_RULES, "ranking")


def examples_per_image(spec: AttackSpec, num_classes: int) -> int:
    """Number of examples that an attack makes of an image."""
    return num_classes - 1 if spec.targets == EVERY else 1


def attack_examples(
    graph: AttackGraph, setting: Setting, spec: AttackSpec, rows: np.ndarray, clean: dict
) -> dict:
    """Attack examples, with restarts for those on which the attack has not succeeded yet.

    Args:
      graph: of the attack.
      setting, spec: what is computed.
      rows: int64 [n], numbers of the examples; the image of example i is i over
        `examples_per_image`.
      clean: what `Judge` gives of the images of these examples; with targets `LIKELY`
        also "ranking" of `rank_wrong_classes`; for attacks that start from given images "starts".

    Returns:
      Per example what `AttackGraph.attack` gives; "success", bool [n], whether the image is
      misclassified and inside the ball; "restarts", int16 [n], how many there were up to the first
      success; and "target", int64 [n], the class to lead to if there is one. Of several restarts it
      is that of the last of these.

    Raises:
      EmpirError: for an adversarial image that is not finite, not in range or not inside the ball,
        or logits that are not finite.
    """
    found = {"restarts": np.zeros(len(rows), np.int16)}
    remaining, done = np.arange(len(rows)), 0
    while done < spec.restarts and len(remaining):
        # Where few examples remain, several restarts fill the batch: a network takes little longer
        # for ten images than for one.
        at_once = min(spec.restarts - done, max(1, setting.batch_size // len(remaining)))
        numbers = np.repeat(np.arange(done, done + at_once), len(remaining))
        examples = np.tile(remaining, at_once)
        part = {name: values[examples] for name, values in clean.items()}
        made = _attack_once(graph, setting, spec, rows[examples], numbers, part)
        success = made["success"].reshape(at_once, len(remaining))
        last = np.where(success.any(axis=0), success.argmax(axis=0), at_once - 1)
        kept = last * len(remaining) + np.arange(len(remaining))
        for name, values in made.items():
            found.setdefault(name, np.zeros((len(rows),) + values.shape[1:], values.dtype))
            found[name][remaining] = values[kept]
        found["restarts"][remaining] = done + last + 1
        remaining = remaining[~found["success"][remaining]]
        done += at_once
    return found


def _attack_once(graph, setting, spec, rows, numbers, clean):
    """The restarts `numbers`, int64 [n], of the examples `rows`."""
    data, threat = setting.data, setting.threat_of(spec)
    image_rows = rows // examples_per_image(spec, data.num_classes)
    images, true = data.images[image_rows], np.asarray(data.labels[image_rows])
    target = _targets(setting, spec, rows, numbers, true, clean)
    labels = clean["decision"] if spec.labels == DECIDED else true
    found = graph.attack(
        images,
        target if spec.targets in (EVERY, DRAWN) else labels,
        rows + numbers * len(data.labels),
        eps=threat and threat.eps,
        toward=target if spec.targets == LIKELY else None,
        starts=clean.get("starts"),
    )
    require_valid(
        spec.name, rows, data.clip_range, adversarial=found["adversarial"], attacked=found["logits"]
    )
    found["success"] = found["decision"] != true
    if threat is not None:
        inside = found[threat.norm] <= threat.reach(data.clip_range, setting.image_size)
        if not attacks.row(spec.attack).decision_only:  # those return the closest, however far
            away = found[threat.norm][int(np.argmax(~inside))]
            problem = f"leaves the ball of radius {threat.eps:g}: it is {away:g} away"
            refuse(spec.name, rows, problem, ~inside)
        found["success"] &= inside
    return found if target is None else dict(found, target=target)


def _targets(setting, spec, rows, numbers, true, clean) -> Optional[np.ndarray]:
    """Classes that examples are led to, int64 [n]; None if there are none."""
    classes = setting.data.num_classes
    if spec.targets == LIKELY:
        return clean["ranking"][np.arange(len(rows)), numbers]
    if spec.targets == EVERY:
        target = rows % (classes - 1)  # every class but the true one, in order
        return target + (target >= true)
    if spec.targets == DRAWN:
        seeds = [[setting.seed, row] for row in rows]
        shifts = [np.random.RandomState(seed).randint(1, classes) for seed in seeds]
        return (clean["decision"] + np.array(shifts)) % classes
    return None


def rank_wrong_classes(logits, labels) -> np.ndarray:
    """Wrong classes by their mean logit, from the largest on; int64 [n, classes - 1].

    Args:
      logits: float32 [n, members, classes].
      labels: true classes, int [n].
    """
    order = np.argsort(-logits.mean(axis=1), axis=1, kind="stable")
    wrong = order[order != np.asarray(labels)[:, np.newaxis]]
    return wrong.reshape(len(labels), -1)


def clean_outputs(judge: Judge, setting: Setting) -> dict:
    """What the ensemble makes of all clean images.

    Returns:
      decision and, by its name, that of each of `DECISION_RULES`, int64 [n]; members, int64
      [n, members]; and ranking, of `rank_wrong_classes`.

    Raises:
      EmpirError: for logits that are not finite.
    """
    return joined([clean_chunk(judge, setting, rows) for rows in chunks_of(setting)])


def joined(parts: Sequence[dict]) -> dict:
    """The parts of `clean_chunk`, in order, as `clean_outputs` gives them."""
    return {name: np.concatenate([part[name] for part in parts]) for name in CLEAN}


def chunks_of(setting: Setting) -> List[np.ndarray]:
    """The images of a setting in chunks, int64 [n] each."""
    count, size = len(setting.data.labels), setting.batch_size
    return [np.arange(start, min(start + size, count)) for start in range(0, count, size)]


def clean_chunk(judge: Judge, setting: Setting, rows: np.ndarray) -> dict:
    """What `clean_outputs` gives, of some images."""
    data = setting.data
    found = judge(data.images[rows])
    require_valid("the ensemble", rows, data.clip_range, clean=found["logits"])
    part = {name: found[name] for name in CLEAN[:-1]}
    return dict(part, ranking=rank_wrong_classes(found["logits"], data.labels[rows]))


def starting_images(setting: Setting, rows: np.ndarray, decisions: np.ndarray) -> np.ndarray:
    """For each image the closest one, in L2, that the ensemble decides to be of another class.

    Args:
      setting: what is attacked.
      rows: int64 [n], images.
      decisions: int64 [all], of all clean images.

    Returns:
      float32 [n, h, w, c]; an image that is misclassified itself, or for which there is no other,
      is its own.
    """
    data = setting.data
    images, labels = data.images[rows], np.asarray(data.labels[rows])
    found, closest = images.copy(), np.full(len(rows), np.inf)
    closest[decisions[rows] != labels] = 0.0
    for start in range(0, len(decisions), setting.batch_size):
        others = data.images[np.arange(start, min(start + setting.batch_size, len(decisions)))]
        decided = decisions[start : start + setting.batch_size]
        for place, (image, label) in enumerate(zip(images, labels)):
            away = ((others - image) ** 2).sum(axis=(1, 2, 3))
            away[decided == label] = np.inf
            if away.min() < closest[place]:
                found[place], closest[place] = others[away.argmin()], away.min()
    return found


def fill(
    store: ChunkStore,
    chunks: Sequence[np.ndarray],
    keys: Sequence[str],
    each: Each,
    call: Callable = lambda rows: (rows,),
    first: int = 0,
    **bar,
):
    """Compute the chunks that a store does not hold, with a progress bar.

    Args:
      store: keeps the chunks; the index of a chunk is the number of rows before it.
      chunks: the rows of each chunk, int64 [n] each.
      keys: names of the arrays that a chunk must have.
      each: computes chunks, see `places.Place.computing`; "seconds" is among a chunk's arrays.
      call: `call(rows)` -> the arguments with which a chunk is computed.
      first: number of rows before the first of these chunks.
      **bar: title, show, and the place whose status is shown, of the progress bar.

    Raises:
      EmpirError: for a chunk that cannot be computed.
    """
    starts = [first + start for start in chunk_starts(chunks)]
    todo = [
        (start, rows)
        for start, rows in zip(starts, chunks)
        if not store.holds(start, len(rows), (*keys, "seconds"))
    ]
    total = sum(map(len, chunks))
    done = total - sum(len(rows) for _, rows in todo)
    if done:
        log.info("resuming: %d of %d examples are done", done, total)
    with lines_above_bars(), progress_bar(total, bar["title"], "image", bar["show"]) as shown:
        shown.update(done)
        calls = [functools.partial(call, rows) for _, rows in todo]
        try:
            for number, arrays in each(calls):
                start, rows = todo[number]
                store.add(start, len(rows), arrays)
                shown.set_postfix_str(bar["place"].status, refresh=False)
                shown.update(len(rows))
        except ChunkError as error:
            rows = todo[error.number][1]
            raise EmpirError(f"{bar['title']}: examples {rows[0]} to {rows[-1]} {error.reason}")


def chunk_starts(chunks: Sequence[np.ndarray]) -> list:
    """Number of rows before each chunk."""
    return [0] + np.cumsum([len(rows) for rows in chunks], dtype=int).tolist()[:-1]
