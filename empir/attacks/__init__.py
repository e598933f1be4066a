"""The paper's attacks on CleverHans' interface, and the one table of what can be attacked with.

`TABLE` has a row per attack. A class of CleverHans' interface becomes a choice of `--attack` by a
row, or from a program by `register`:

    attacks.register("mim", cleverhans.attacks.MomentumIterativeMethod)

What the class takes is read from the class itself: labels (`y`), targets (`y_target`), and the
index of each example (`index`), and the parameters that the experiment and the flags set.
"""

import importlib
import inspect
import math
from dataclasses import dataclass
from typing import Any, Dict, Optional, Tuple, Union

from empir.errors import EmpirError

#: What an experiment or a flag sets, by the flag's name. A class that has a parameter of such a
#: name gets its value unless its row says otherwise.
SETTINGS = ("eps", "eps_iter", "nb_iter", "attack_iterations", "batch_size", "seed")

#: Largest number of steps, and of images of a batch. TensorFlow counts in 32 bits: beyond them a
#: number would wrap to none at all.
MOST = 10**6


@dataclass(frozen=True)
class Row:
    """An attack of `TABLE`. None means: read it from the class.

    Attributes:
      attack: the class, or "module:Class", which is imported when it is needed.
      parameters: parameters with fixed values; None = the class's defaults that are plain data.
      settings: other parameters, and for each the name in `SETTINGS` of what sets it.
      released: what the authors' code differentiates on an ensemble (docs/original.md, Defects 11
        to 14, and Attacks), a name of `empir.models.ensemble.ATTACK_TARGETS`; None = their code has
        no such attack.
      order: norm order of the ball of radius eps, where the class has no parameter `ord`.
      cost: approximate cost of one step on one image, in steps of Auto-PGD. A suite predicts with
        it how long it will take.
      number: the original's `--attack` number (docs/original.md, Flags), if it has one.
    """

    attack: Union[str, type]
    parameters: Optional[dict] = None
    settings: Optional[Dict[str, str]] = None
    released: Optional[str] = None
    order: Optional[float] = None
    cost: float = 1.0
    number: Optional[str] = None

    def load(self) -> type:
        """The attack's class."""
        if not isinstance(self.attack, str):
            return self.attack
        module, _, name = self.attack.partition(":")
        return getattr(importlib.import_module(module), name)

    def defaults(self) -> dict:
        """The parameters that the class has, with their defaults."""
        cls: Any = self.load()
        if hasattr(cls, "defaults"):
            return dict(cls.defaults)
        parameters = inspect.signature(cls.parse_params).parameters.values()
        named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        return {p.name: p.default for p in parameters if p.kind in named and p.name != "self"}

    def takes(self, parameter: str) -> bool:
        """Whether the class has a parameter of that name."""
        return parameter in self.defaults()

    def sources(self) -> Dict[str, str]:
        """Parameters that a setting sets: parameter -> name in `SETTINGS`."""
        if self.settings is not None:
            return self.settings
        return {name: name for name in SETTINGS if self.takes(name)}

    def given_parameters(self, clip_range: Tuple[float, float], settings: dict) -> dict:
        """The parameters of an evaluation, as plain data.

        Args:
          clip_range: lowest and highest value of an image.
          settings: a value for each name in `SETTINGS`.
        """
        clip = {"clip_min": clip_range[0], "clip_max": clip_range[1]}
        fixed = self.parameters
        if fixed is None:
            fixed = {name: value for name, value in self.defaults().items() if _is_plain(value)}
        found = dict(fixed, **{name: settings[key] for name, key in self.sources().items()})
        found.update({name: value for name, value in clip.items() if self.takes(name)})
        return found

    @property
    def operations(self) -> int:
        """Operations that must be able to run at once (`runtime.session`).

        This project's attacks are operations of the graph. Others may call the session from within
        an operation, which blocks for good where only one may run.
        """
        return 1 if self.load().__module__.startswith("empir.") else 2

    @property
    def decision_only(self) -> bool:
        """Whether the attack sees only decisions, so that it is no operation of a graph."""
        return getattr(self.load(), "decision_only", False)

    @property
    def gradient_free(self) -> bool:
        """Whether the attack takes no gradient."""
        return self.decision_only or getattr(self.load(), "gradient_free", False)

    def is_fed(self, parameter: str) -> bool:
        """Whether a tensor may be given for a parameter, so that one graph serves all values."""
        return parameter in getattr(self.load(), "feedable", ())

    def ball_order(self, parameters: dict) -> Optional[float]:
        """Norm order of the ball of radius eps that the images stay in; None if there is none."""
        if "eps" not in parameters:
            return None
        return parameters.get("ord", self.defaults().get("ord", self.order))


def _is_plain(value):
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, (bool, int, str))


_LINF = {"eps": "eps", "eps_iter": "eps_iter", "nb_iter": "nb_iter"}
_RANDOM = {"eps": "eps", "nb_iter": "nb_iter", "seed": "seed"}

#: The attacks by name. The parameters are the paper's (docs/original.md, Attacks).
TABLE = {
    "cw": Row(
        "empir.attacks.cw:CarliniWagnerL2",
        dict(
            binary_search_steps=1,
            learning_rate=0.1,
            initial_const=10.0,
            confidence=0.0,
            abort_early=True,
        ),
        {"max_iterations": "attack_iterations", "batch_size": "batch_size"},
        released="full_precision",
        cost=9,
        number="0",
    ),
    "fgsm": Row(
        "empir.attacks.pgd:FastGradientMethod",
        {},
        {"eps": "eps"},
        released="majority_probs",
        cost=2,
        number="2",
    ),
    "bim": Row(
        "empir.attacks.pgd:BasicIterativeMethod",
        {},
        _LINF,
        released="full_precision",
        number="4",
    ),
    "pgd": Row(
        "empir.attacks.pgd:ProjectedGradientDescent",
        dict(rand_init=True),
        dict(_LINF, seed="seed"),
        released="majority_probs",
        number="3",
    ),
    "jsma": Row(
        "cleverhans.attacks:SaliencyMapMethod",
        dict(theta=1.0, gamma=0.1),
        {},
        released="majority_probs",
        number="1",
    ),
    "apgd": Row("empir.attacks.apgd:AutoPGD", {}, _RANDOM),
    "square": Row("empir.attacks.square:SquareAttack", {}, _RANDOM, order=math.inf, cost=0.5),
    "rays": Row(
        "empir.attacks.rays:RayS",
        {},
        {"eps": "eps", "queries": "nb_iter", "seed": "seed"},
        order=math.inf,
        cost=0.5,
    ),
    "noise": Row("empir.attacks.pgd:Noise", {}, {"eps": "eps", "seed": "seed"}, cost=0.5),
    "hopskipjump": Row(
        "empir.attacks.hopskipjump:HopSkipJump",
        {},
        {"eps": "eps", "iterations": "nb_iter", "seed": "seed"},
        cost=150,
    ),
}


def register(name: str, attack, **fields):
    """Add a row to `TABLE`.

    Args:
      name: of the attack, in lower case.
      attack: its class, which follows CleverHans' interface, or "module:Class".
      **fields: other fields of `Row`.

    Raises:
      EmpirError: if there is an attack of that name, or the name cannot be one.
    """
    if name in TABLE or name in numbers() or name != name.lower() or not name:
        raise EmpirError("the attack %r cannot be added: take another name, in lower case" % name)
    TABLE[name] = Row(attack, **fields)


def numbers() -> Dict[str, str]:
    """The original's `--attack` numbers: number -> name."""
    return {row.number: name for name, row in TABLE.items() if row.number is not None}


def canonical_name(name: str) -> str:
    """Attack name from a name of `TABLE` or the original's 0..4; else `EmpirError`."""
    known = numbers()
    name = known.get(str(name), str(name).lower())
    if name not in TABLE:
        raise EmpirError(
            "attack %r: choose from %s, or the original's %s"
            % (
                name,
                ", ".join(TABLE),
                ", ".join("%s (%s)" % item for item in sorted(known.items())),
            )
        )
    return name


def row(name: str) -> Row:
    """The row of `TABLE` that a name or number means; `EmpirError` if there is none."""
    return TABLE[canonical_name(name)]


def create(name: str, model, session, shares: int = 1):
    """The attack of that name on a CleverHans or Keras model. JSMA is CleverHans' own.

    Args:
      name: of `TABLE`.
      model: is attacked.
      session: holds its weights.
      shares: number of shares of the images that this project's attacks compute side by side, see
        `base.in_shares`; results do not depend on it but for rounding.

    Raises:
      EmpirError: for an unknown name.
    """
    attack = row(name).load()(model, sess=session)
    attack.shares = shares
    return attack
