"""What an evaluation found on each image, in one small file: images.npz, beside result.json.

Every accuracy of the record can be computed from it again, on all images or on some, and two
evaluations of the same images can be compared pair by pair. It holds no images. With n images, m
members and k attacks its arrays are

    rule            the decision rule, a text [1]
    number          of each image in its split, [n]
    label           true classes, [n]
    clean_RULE      decisions on the clean images under each of `DECISION_RULES`, [n]
    clean_members   of each member, [n, m]
    attacks         names in the order of the record, texts [k]
    attacked        which images each attack was run on, bits [k, n / 8] as of `np.packbits`
    succeeded       on which of them it succeeded, within its own radius, likewise
    counted         on which of them it succeeded within the radius of the threat model, likewise
    first           the place in `attacks` of the first success that counted, [n]; -1: there is none
    decision, members, l2, linf
                    of the adversarial image of that success, or else of the clean image: decisions
                    [n] and [n, m], and distances [n] in float16, if none is too large for it
"""

from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from empir.errors import EmpirError
from empir.evaluation.scores import Paired, Score, paired, score
from empir.models import DECISION_RULES
from empir.records import chunks

#: Name of the file in the folder of a run.
NAME = "images.npz"
_BITS = ("attacked", "succeeded", "counted")
_CLEAN = tuple(f"clean_{rule}" for rule in DECISION_RULES)
_PER_IMAGE = ("number", "label", *_CLEAN, "first", "decision", "l2", "linf")
_KEYS = ("rule", "attacks", *_BITS, *_PER_IMAGE, "clean_members", "members")


@dataclass(frozen=True)
class Images:
    """The arrays of an images.npz.

    Attributes:
      rule: the decision rule.
      attacks: names of the attacks in the order in which they were run.
      number, label, first, decision: int64 [n], see the module.
      clean: decisions on the clean images, int64 [n], by decision rule.
      clean_members, members: int64 [n, members].
      attacked, succeeded, counted: bool [n] by the name of an attack.
      l2, linf: float [n].
    """

    rule: str
    attacks: List[str]
    number: np.ndarray
    label: np.ndarray
    clean: Dict[str, np.ndarray]
    clean_members: np.ndarray
    attacked: Dict[str, np.ndarray]
    succeeded: Dict[str, np.ndarray]
    counted: Dict[str, np.ndarray]
    first: np.ndarray
    decision: np.ndarray
    members: np.ndarray
    l2: np.ndarray
    linf: np.ndarray

    @property
    def correct(self) -> np.ndarray:
        """Which images are classified correctly, clean and under every attack; bool [n]."""
        correct = self.clean[self.rule] == self.label
        for counted in self.counted.values():
            correct = correct & ~counted
        return correct

    def worst_case(self) -> Score:
        """Robust accuracy under all attacks, with its interval."""
        return score(float(self.correct.mean()), len(self.label))

    def clean_accuracy(self, rule: Optional[str] = None) -> Score:
        """Accuracy on the clean images under a decision rule, by default the evaluation's."""
        right = self.clean[rule or self.rule] == self.label
        return score(float(right.mean()), len(self.label))

    def accuracy(self, attack: str) -> Score:
        """Accuracy on the images that an attack was run on, under this attack alone."""
        left = ~self.succeeded[attack][self.attacked[attack]]
        return score(float(left.mean()), len(left))

    def against(self, other: "Images") -> Paired:
        """McNemar's exact test of this evaluation, the first, and another one of the same images.

        Raises:
          EmpirError: if the images are not the same, in the same order.
        """
        for name in ("number", "label"):
            if not np.array_equal(getattr(self, name), getattr(other, name)):
                raise EmpirError("a paired test asks for two evaluations of the same images")
        return paired(self.correct, other.correct)

    def problem(self, record: dict) -> Optional[str]:
        """What a suite's or an attack's record says otherwise, in words; None if all agrees."""
        told = record.get("worst_case_accuracy", record.get("adversarial_accuracy"))
        suite = "worst_case_accuracy" in record
        found = self.worst_case() if suite else self.accuracy(self.attacks[0])
        pairs: List[Tuple[str, Any, Any]] = [
            ("number of images", record["num_examples"], len(self.label))
        ]
        pairs += [("decision rule", record["combine"], self.rule)]
        pairs += [("accuracy under attack", told, found.percent / 100)]
        pairs += [("clean accuracy", record["clean_accuracy"], self.clean_accuracy().percent / 100)]
        for row in record.get("trials", ()):
            if row["name"] not in self.attacked:
                return f"has no attack {row['name']}"
            counts = [int(each[row["name"]].sum()) for each in (self.attacked, self.succeeded)]
            pairs += [(f"images of {row['name']}", [row["attacked"], row["broken"]], counts)]
        for what, said, has in pairs:
            if not (said == has or isinstance(has, float) and abs(said - has) < 1e-9):
                return f"has as its {what} {has}, and the record says {said}"
        return None


def of_suite(evaluation, rule: str) -> dict:
    """The arrays of a `suite.Evaluation` whose attacks were run, under a decision rule."""
    data, clean, first = evaluation.setting.data, evaluation.clean, evaluation.first_success
    found = _of_clean(data.labels, data.numbers, clean, rule)
    names = [row["name"] for row in evaluation.rows]
    bits = {name: np.zeros((len(names), len(first)), bool) for name in _BITS}
    threat, size = evaluation.setting.threat, evaluation.setting.image_size
    for place, name in enumerate(names):
        kept = evaluation.arrays(name, ("row", "success", "decision", "members", "l2", "linf"))
        row, success = kept["row"], kept["success"]
        if not len(row):
            continue
        bits["attacked"][place, row] = True
        bits["succeeded"][place, row] = success
        close = kept[threat.norm] <= threat.reach(data.clip_range, size)
        bits["counted"][place, row] = success & close
        new = first[row] == place
        for key in ("decision", "members", "l2", "linf"):
            found[key][row[new]] = kept[key][new]
    return dict(found, attacks=np.array(names, str), first=first, **bits)


def of_attack(attack: str, rule: str, numbers: np.ndarray, arrays: dict) -> dict:
    """The arrays of an attack that was run alone, once on every image.

    Args:
      attack: its name.
      rule: the decision rule.
      numbers: of the attacked images in their split, int [n].
      arrays: of its examples.npz, without its images.
    """
    labels = arrays["label"]
    clean = {name: arrays[f"clean_{name}"] for name in (*DECISION_RULES, "members")}
    found = _of_clean(labels, numbers, clean, rule)
    attacked, success = arrays[f"adversarial_{rule}"], arrays[f"adversarial_{rule}"] != labels
    bits = {name: success[np.newaxis] for name in ("succeeded", "counted")}
    first = np.where(success & (found["decision"] == labels), 0, -1)
    pairs = [("decision", attacked), ("members", arrays["adversarial_members"])]
    for name, values in pairs + [(name, arrays[name]) for name in ("l2", "linf")]:
        found[name][first == 0] = values[first == 0]
    return dict(
        found,
        attacks=np.array([attack]),
        attacked=np.ones((1, len(first)), bool),
        first=first,
        **bits,
    )


def _of_clean(labels, numbers, clean, rule):
    """The arrays that no attack changes, and what the others are where no attack succeeds."""
    count = len(labels)
    found = {f"clean_{name}": clean[name] for name in (*DECISION_RULES, "members")}
    found.update(rule=np.array([rule]), number=numbers, label=np.asarray(labels))
    found.update(decision=clean[rule].copy(), members=clean["members"].copy())
    return dict(found, l2=np.zeros(count, np.float32), linf=np.zeros(count, np.float32))


def write(path: str, arrays: dict):
    """Write the arrays of `of_suite` or `of_attack`, atomically; equal arrays give equal bytes."""
    chunks.write_npz(path, _KEYS, lambda name: [_small(name, arrays[name])])


def _small(name, array):
    """An array in the smallest type that holds its values."""
    if name in _BITS:
        return np.packbits(array, axis=1)
    if array.dtype.kind == "i":
        low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
        return array.astype(np.promote_types(np.min_scalar_type(low), np.min_scalar_type(high)))
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):
            half = array.astype(np.float16)
        return half if np.isfinite(half).all() else array.astype(np.float32)
    return array


def read(path: str) -> Images:
    """The arrays in a file.

    Raises:
      EmpirError: if it is missing, damaged, or not such a file.
    """
    try:
        with chunks.opened(path) as archive:
            kept = {name: archive[name] for name in _KEYS}
        count = len(kept["label"])
        wrong = [name for name in _PER_IMAGE if kept[name].shape != (count,)]
        wrong += [name for name in ("clean_members", "members") if len(kept[name]) != count]
        wrong += [n for n in _BITS if kept[n].shape != (len(kept["attacks"]), -(-count // 8))]
        if wrong:
            raise ValueError(f"its {wrong[0]} has the shape {kept[wrong[0]].shape}")
    except Exception as error:  # zipfile's, zlib's and NumPy's, of a file that is damaged
        raise EmpirError(f"{path} is unreadable: {' '.join(str(error).split())}")
    names = kept["attacks"].tolist()
    for name in _BITS:
        rows = np.unpackbits(kept[name], axis=1)[:, :count].astype(bool)
        kept[name] = dict(zip(names, rows))
    clean = {rule: kept.pop(f"clean_{rule}").astype(np.int64) for rule in DECISION_RULES}
    for name in ("number", "label", "clean_members", "first", "decision", "members"):
        kept[name] = kept[name].astype(np.int64)
    return Images(**dict(kept, rule=str(kept["rule"][0]), attacks=names, clean=clean))


def read_of(path: str, record: dict) -> Images:
    """The arrays in a file that belongs to a suite's or an attack's record.

    Raises:
      EmpirError: as of `read`, or if the record says otherwise.
    """
    found = read(path)
    problem = found.problem(record)
    if problem:
        raise EmpirError(f"{path} {problem}: make both anew")
    return found
