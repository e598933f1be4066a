"""Attacks of an evaluation as data."""

from dataclasses import dataclass, field, replace
from typing import Optional

from empir import attacks
from empir.evaluation.views import ViewSpec

#: Labels that an attack is given: the true classes, or the ensemble's decisions on clean images.
TRUE, DECIDED = "true", "decided"
#: Classes that an attack leads to: none; in each restart the next most likely wrong class of the
#: clean image; one example for each wrong class; or one wrong class, drawn at random.
NONE, LIKELY, EVERY, DRAWN = "none", "likely", "every", "drawn"


@dataclass(frozen=True)
class AttackSpec:
    """One attack of an evaluation.

    Attributes:
      name: of the attack in records, and of its folder.
      attack: a name of `attacks.TABLE`.
      view: what the attack follows; None: the cross-entropy of the ensemble's attack target, or
        for an attack that sees only decisions, nothing.
      steps: steps of one restart: gradients, queries, or iterations per search step.
      restarts: random starts, or target classes if these are `LIKELY`. An image is attacked until
        the first success.
      targets: `NONE`, `LIKELY`, `EVERY` or `DRAWN`.
      labels: `TRUE` or `DECIDED`.
      everyone: attack every image, not only those that no attack before has misclassified.
      images: attack only so many of them; None: all. They are the first, or, of a pilot, those that
        the attacks before it brought closest to a misclassification.
      pilot: if the attack succeeds on one of those `images`, attack as many more (`wave`), until it
        succeeds on none.
      at_most: attack only if no more than so many images remain; None: always.
      start: name of an attack before this one; the images that it led to are where this one starts,
        instead of a random point.
      eps: radius, if it is not the threat model's.
      seed: added to the evaluation's seed.
      part: what the attack is for: "suite", "control", or the curve "radius", "steps", "restarts"
        or "distortion".
      parameters: values of the attack's parameters, by CleverHans' names, that follow from nothing
        above.
    """

    name: str
    attack: str
    view: Optional[ViewSpec] = None
    steps: int = 1
    restarts: int = 1
    targets: str = NONE
    labels: str = TRUE
    everyone: bool = False
    images: Optional[int] = None
    pilot: bool = False
    at_most: Optional[int] = None
    start: Optional[str] = None
    eps: Optional[float] = None
    seed: int = 0
    part: str = "suite"
    parameters: dict = field(default_factory=dict)

    def describe(self) -> dict:
        """The attack as plain data, under the names that records of a suite have."""
        kept = ("name", "attack", "steps", "everyone", "images", "eps", "seed", "part")
        described = {name: getattr(self, name) for name in kept}
        for name in ("pilot", "at_most", "start"):
            if getattr(self, name):
                described[name] = getattr(self, name)
        has_choice = attacks.row(self.attack).takes("loss")
        described["goal"] = str(self.view) if self.view and has_choice else None
        described["rounds"] = self.restarts
        described["targeted"] = self.targets == LIKELY
        return described

    def resolved(self, clip_range, threat, seed: int, batch_size: int) -> dict:
        """All parameters of the attack that are plain data, by CleverHans' names.

        Args:
          clip_range: lowest and highest value of an image.
          threat: a `Threat`; None if the attack has no radius, or `parameters` say it.
          seed: of the evaluation.
          batch_size: images per call.
        """
        row = attacks.row(self.attack)
        eps = self.eps if self.eps is not None or threat is None else threat.eps
        settings = dict(eps=eps, nb_iter=self.steps, attack_iterations=self.steps, eps_iter=None)
        settings.update(seed=seed + self.seed, batch_size=batch_size)
        found = row.given_parameters(clip_range, settings)
        if threat is not None and row.takes("ord"):
            found["ord"] = threat.order
        return dict(found, **self.parameters)

    def wave(self, number: int) -> "AttackSpec":
        """The attack on a number of those images that the pilot left out; numbers are from 2 on."""
        return replace(self, name=f"{self.name}-{number}", pilot=False)

    def graph_key(self) -> tuple:
        """What attacks share that have the same operations, to which the radius may be fed."""
        eps = None if attacks.row(self.attack).is_fed("eps") else self.eps
        parameters = tuple(sorted(self.parameters.items()))
        started = self.start is not None
        return self.attack, self.view, self.steps, self.targets, self.seed, eps, started, parameters

    def work(self, images: int) -> float:
        """Cost on so many images, in steps of Auto-PGD on one image, if no image ends early."""
        samples = self.view.samples if self.view else 1
        return images * self.restarts * self.steps * samples * attacks.row(self.attack).cost
