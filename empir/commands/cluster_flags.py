"""The flags by which an evaluation is computed by several processes or machines."""

from typing import Optional

from absl import flags

from empir.errors import EmpirError
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


def shard(**refused: bool) -> Optional[Shard]:
    """The part of --shard, or None.

    Args:
      **refused: what cannot be computed in parts, by the words for it with _ for spaces, and
        whether it is asked for.

    Raises:
      EmpirError: for a text that means no part, without --out, or for what cannot be in parts.
    """
    if FLAGS.shard is None:
        return None
    found = Shard.parse(FLAGS.shard)
    if not FLAGS.out:
        raise EmpirError(f"--shard={found} needs --out, a folder of its own for each shard")
    for words, asked in refused.items():
        if asked:
            raise EmpirError(f"--shard={found}: {words.replace('_', ' ')}: drop --shard")
    return found
