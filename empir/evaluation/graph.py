"""The operations of an attack on an ensemble: images in, adversarial images and decisions out."""

from dataclasses import dataclass, field
from typing import Any, Callable, ContextManager, Optional, Sequence

import numpy as np

from empir import attacks, runtime
from empir.attacks.base import in_shares
from empir.data import Dataset
from empir.errors import EmpirError
from empir.evaluation.metrics import distances, margins
from empir.evaluation.specs import DRAWN, EVERY, LIKELY, AttackSpec
from empir.evaluation.threat import NORMS, Threat, norm_of_ones
from empir.evaluation.views import JUDGING_SAMPLES, AttackedEnsemble, most_frequent
from empir.models.ensemble import DECISION_RULES, Ensemble
from empir.runtime import tf


@dataclass(frozen=True)
class Networks:
    """Networks in a graph and a session of their own.

    Attributes:
      session: holds their weights.
      ensemble: is attacked, and decides.
      outside: networks that are no members, from which attacks are transferred.
    """

    session: Any
    ensemble: Ensemble
    outside: Sequence = ()


@dataclass(frozen=True)
class Setting:
    """What is attacked, and under which threat model.

    Attributes:
      open: makes a context in which there are `Networks` in a graph of their own. Each attack of a
        suite opens them anew, because TensorFlow optimizes all of a graph for each addition to it.
      data: clean images and true labels.
      threat: the threat model; None if the attack's parameters say it.
      seed: of everything random.
      batch_size: images per graph call; it changes results by rounding only.
      architecture: name of the network, for the record.
      options: how the members were built, if not by default, e.g. {"nb_filters": 32}.
      judging_samples: passes by which the decisions of networks that draw at random are judged.
      shares: number of shares of a batch that threads compute side by side (`runtime.configure`).

    Raises:
      EmpirError: for a seed that is out of range.
    """

    open: Callable[[], ContextManager[Networks]]
    data: Dataset
    threat: Optional[Threat]
    seed: int = runtime.DEFAULT_SEED
    batch_size: int = 100
    architecture: str = "unnamed"
    options: dict = field(default_factory=dict)
    judging_samples: int = JUDGING_SAMPLES
    shares: int = 1

    def __post_init__(self):
        if not 0 <= self.seed < 2**31 - 1:
            raise EmpirError(f"seed={self.seed!r} must be 0..2^31 - 2")

    def parameters(self, spec: AttackSpec) -> dict:
        """All parameters of an attack that are plain data, by CleverHans' names."""
        return spec.resolved(self.data.clip_range, self.threat, self.seed, self.batch_size)

    def threat_of(self, spec: AttackSpec) -> Optional[Threat]:
        """The threat model that an attack's parameters state; None if they state no radius."""
        parameters = self.parameters(spec)
        order = attacks.row(spec.attack).ball_order(parameters)
        norms = [norm for norm, its_order in NORMS.items() if its_order == order]
        return Threat(norms[0], parameters["eps"]) if norms and parameters["eps"] > 0 else None

    @property
    def bound(self) -> Threat:
        """The threat model, which a suite needs; `EmpirError` if there is none."""
        if self.threat is None:
            raise EmpirError("a suite of attacks needs a threat model: a norm and a radius")
        return self.threat

    @property
    def image_size(self) -> int:
        """Number of values of an image."""
        return int(np.prod(self.data.images.shape[1:]))

    @property
    def largest_radius(self) -> float:
        """Radius of a ball around any image that holds all images."""
        low, high = self.data.clip_range
        return (high - low) * norm_of_ones(self.bound.norm, self.image_size)


class Judge:
    """What an ensemble makes of images, clean or adversarial.

    Args:
      setting, networks: who decides.
    """

    def __init__(self, setting: Setting, networks: Networks) -> None:
        ensemble, data = networks.ensemble, setting.data
        self._classes, self._ensemble = data.num_classes, ensemble
        self._samples, self._session = setting.judging_samples, networks.session
        if ensemble.runtime is None:
            self._images = tf.placeholder(tf.float32, (None,) + data.images.shape[1:], "judged")
            self._found = in_shares(self._outputs, self._images, shares=setting.shares)

    def __call__(self, images: np.ndarray) -> dict:
        """What the ensemble makes of images [n, h, w, c]: arrays by name.

        Returns:
          decision under the ensemble's rule and under each of `DECISION_RULES`, int64 [n]; members,
          int64 [n, members]; logits, float32 [n, members, classes].
        """
        if self._ensemble.runtime is not None:
            found = self._ensemble.runtime(images)
        else:
            found = self._session.run(self._found, {self._images: images})
        return dict(found, decision=found[self._ensemble.combine])

    def decide(self, images: np.ndarray) -> np.ndarray:
        """Decisions under the ensemble's rule, int64 [n], of images [n, h, w, c]."""
        return self(images)["decision"]

    def _outputs(self, image):
        """Decisions under each rule and of the members, and the members' logits, of images."""
        if not self._ensemble.draws or self._samples == 1:
            return _one_pass(self._ensemble, image)
        types = dict.fromkeys(DECISION_RULES + ("members",), tf.int64)
        passes = tf.map_fn(
            lambda _: _one_pass(self._ensemble, image),
            tf.range(self._samples),
            dtype=dict(types, logits=tf.float32),
            parallel_iterations=1,
            back_prop=False,
        )
        logits = tf.reduce_mean(passes.pop("logits"), axis=0)
        found = {name: most_frequent(each, self._classes) for name, each in passes.items()}
        return dict(found, logits=logits)


def _one_pass(ensemble, image):
    logits = ensemble.member_logits(image)
    stacked = tf.stack(logits, axis=1)
    members = tf.argmax(stacked, axis=2)
    return dict(ensemble.decisions(logits), logits=stacked, members=members)


class AttackGraph:
    """The operations of one attack.

    Args:
      setting, networks: what is attacked.
      spec: the attack.
      judge: of the same networks, here or in a graph of its own.
    """

    def __init__(
        self, setting: Setting, networks: Networks, spec: AttackSpec, judge: Judge
    ) -> None:
        data = setting.data
        self._classes = data.num_classes
        self._setting, self._networks, self._spec = setting, networks, spec
        self._judge = judge
        self._images = tf.placeholder(tf.float32, (None,) + data.images.shape[1:], "images")
        self._labels = tf.placeholder(tf.float32, [None, data.num_classes], "labels")
        self._toward = tf.placeholder(tf.float32, [None, data.num_classes], "toward")
        self._index = tf.placeholder(tf.int64, [None], "index")
        self._starts = tf.placeholder(tf.float32, self._images.shape, "starts")
        self._search = self._eps = None
        row, parameters = attacks.row(spec.attack), setting.parameters(spec)
        if row.decision_only:
            self._search = row.load()(judge.decide, self._classes, **parameters).search
            return
        ensemble = networks.ensemble
        if row.gradient_free:
            ensemble = ensemble.without_gradient()
        model = ensemble.target(spec.attack)
        if spec.view is not None:
            model = AttackedEnsemble(ensemble, spec.view, networks.outside)
        feeds = self._feeds(row)
        if setting.threat is not None and row.is_fed("eps"):
            self._eps = feeds["eps"] = tf.placeholder(tf.float32, [], "eps")
        attack = attacks.create(spec.attack, model, networks.session, setting.shares)
        self._adversarial = attack.generate(self._images, **dict(parameters, **feeds))

    def _feeds(self, row):
        """Tensors for those of labels, targets and index that the attack takes."""
        targets = self._spec.targets
        feeds = {"index": self._index}
        feeds["y_target" if targets in (EVERY, DRAWN) else "y"] = self._labels
        if targets == LIKELY:
            feeds["toward"] = self._toward
        if self._spec.start is not None:
            feeds["initial"] = self._starts
            if not row.takes("initial"):
                raise EmpirError(f"{self._spec.name}: its attack starts from no given images")
        for name in ("y_target", "toward"):
            if name in feeds and not row.takes(name):
                raise EmpirError(f"--targeted: the attack {self._spec.attack} takes no targets")
        return {name: tensor for name, tensor in feeds.items() if row.takes(name)}

    def attack(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        index: np.ndarray,
        *,
        eps: Optional[float] = None,
        toward: Optional[np.ndarray] = None,
        starts: Optional[np.ndarray] = None,
    ) -> dict:
        """Attack images once.

        Args:
          images: float32 [n, h, w, c].
          labels: int [n], what the attack leads away from, or with targets `EVERY` and `DRAWN` to.
          index: int64 [n], number of each example, for its random numbers.
          eps: radius, for attacks that are fed it.
          toward: int [n], classes to lead to with targets `LIKELY`.
          starts: images of the same shape that the attack starts from, for a spec that has a
            `start`; for attacks that see decisions only they are misclassified ones.

        Returns:
          What the judge says of the adversarial images; adversarial, float32 [n, h, w, c]; and the
          distances of `metrics.distances`.
        """
        if self._search is not None:
            adversarial = self._search(images, labels, starts, index)
        else:
            adversarial = self._computed(images, labels, index, eps, toward, starts)
        found = dict(self._judge(adversarial), adversarial=adversarial)
        return dict(found, **distances(images, adversarial))

    def margins(self, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """`metrics.margins` of the ensemble's decision rule."""
        ensemble = self._networks.ensemble
        return margins(logits, labels, ensemble.combine, ensemble.temperature)

    def _computed(self, images, labels, index, eps, toward, starts):
        """Adversarial images of an attack whose operations are in the graph."""
        eye = np.eye(self._classes, dtype=np.float32)
        feed = {self._images: images, self._labels: eye[labels], self._index: index}
        feed[self._toward] = eye[labels if toward is None else toward]
        if self._eps is not None:
            feed[self._eps] = eps
        if starts is not None:
            feed[self._starts] = starts
        return self._networks.session.run(self._adversarial, feed)
