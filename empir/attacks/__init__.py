"""The paper's attacks on CleverHans' interface, and the one registry of them."""

from empir.errors import EmpirError

#: The original's `--attack` numbers (FACTS 2.4).
NUMBERS = {"0": "cw", "1": "jsma", "2": "fgsm", "3": "pgd", "4": "bim"}
NAMES = ("cw", "fgsm", "bim", "pgd", "jsma")


def canonical_name(name: str) -> str:
    """Attack name from a name of `NAMES` or the original's 0..4; else `EmpirError`."""
    name = NUMBERS.get(str(name), str(name).lower())
    if name not in NAMES:
        raise EmpirError(
            "attack %r: choose from %s, or the original's %s"
            % (name, ", ".join(NAMES), ", ".join("%s (%s)" % item for item in NUMBERS.items()))
        )
    return name


def create(name: str, model, session):
    """The attack of that name on a CleverHans or Keras model. JSMA is CleverHans' own.

    Raises:
      EmpirError: for an unknown name.
    """
    from cleverhans.attacks import SaliencyMapMethod

    from empir.attacks.bim import BasicIterativeMethod
    from empir.attacks.cw import CarliniWagnerL2
    from empir.attacks.fgsm import FastGradientMethod
    from empir.attacks.pgd import ProjectedGradientDescent

    classes = {
        "cw": CarliniWagnerL2,
        "fgsm": FastGradientMethod,
        "bim": BasicIterativeMethod,
        "pgd": ProjectedGradientDescent,
        "jsma": SaliencyMapMethod,
    }
    return classes[canonical_name(name)](model, sess=session)
