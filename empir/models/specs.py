"""A member before it is loaded: its bits, and where its checkpoint is."""

from dataclasses import dataclass
from typing import Optional, Tuple, Union

from empir.errors import EmpirError
from empir.nn.precision import Precision, parse_layers


@dataclass(frozen=True)
class MemberSpec:
    """A member that is to be loaded or trained.

    Attributes:
      precision: of all its quantized layers, or one for each of them.
      path: its checkpoint, or the folder that it is trained into; None keeps nothing of it.
    """

    precision: Union[Precision, Tuple[Precision, ...]]
    path: Optional[str] = None

    @classmethod
    def parse(cls, text: str, flag: str) -> "MemberSpec":
        """The member that a text such as "w2a4:checkpoints/mnist/model1-w2a4" names.

        Args:
          text: PRECISION:CHECKPOINT, the precision as of `precision.parse_layers`.
          flag: which the text is of, for the error.

        Raises:
          EmpirError: if the text is anything else.
        """
        bits, _, path = text.partition(":")
        if not path:
            raise EmpirError(
                f"{flag}: {text!r} is not PRECISION:CHECKPOINT, e.g. "
                "w2a4:checkpoints/mnist/model1-w2a4"
            )
        return cls(parse_layers(bits), path)
