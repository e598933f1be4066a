"""The flags by which an evaluation is computed by several processes or machines."""

from types import MappingProxyType
from typing import TYPE_CHECKING, Mapping, Optional

from absl import flags

from empir.errors import EmpirError

if TYPE_CHECKING:
    from empir.evaluation.shards import Shard

FLAGS = flags.FLAGS


def define():
    """Define --shard."""
    flags.DEFINE_string(
        "shard",
        None,
        "Compute one of several parts, e.g. 1/8 to 8/8, each with an --out of its own; empir merge "
        "makes the whole of them. By default everything is computed.",
    )


def shard(refused: Mapping[str, bool] = MappingProxyType({})) -> Optional["Shard"]:
    """The part of --shard, or None.

    Args:
      refused: why something cannot be computed in parts -> whether it is asked for.

    Raises:
      EmpirError: for a text that means no part, without --out, or for what cannot be in parts.
    """
    if FLAGS.shard is None:
        return None
    from empir.evaluation.shards import Shard  # loads TensorFlow

    found = Shard.parse(FLAGS.shard)
    if not FLAGS.out:
        raise EmpirError(f"--shard={found} needs --out, a folder of its own for each shard")
    for reason, asked in refused.items():
        if asked:
            raise EmpirError(f"--shard={found}: {reason}: drop --shard")
    return found
