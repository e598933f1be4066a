"""How reports call the networks of a record: by the names of their files and by their bits."""

import os
from typing import List, Sequence

from empir.nn.precision import FULL, Precision

#: What a record gives as the architecture of Keras models, which have none of this project's.
KERAS = "Keras"


def title(record: dict) -> str:
    """What was evaluated: the architecture, or the files of Keras models, and how many members."""
    members, name = record["members"], record["architecture"]
    if name == KERAS:
        name = ", ".join(names(members))
    return "%s, %d members" % (name, len(members)) if len(members) > 1 else name


def names(members: Sequence[dict]) -> List[str]:
    """A name for each network: its file's, or its whole path where two files have one name.

    Networks that came from no file are called by their numbers, and so are those of one path.
    """
    paths = [member.get("path") or "member %d" % n for n, member in enumerate(members, 1)]
    short = [os.path.basename(path.rstrip("/")) or path for path in paths]
    if len(set(short)) < len(short):
        short = paths
    if len(set(short)) < len(short):
        short = ["%s (%d)" % (name, n) for n, name in enumerate(short, 1)]
    return short


def titles(members: Sequence[dict]) -> List[str]:
    """Name and bits of each network, as "model1-w2a4, w2a4"."""
    return ["%s, %s" % pair for pair in zip(names(members), map(precision, members))]


def precision(member: dict) -> str:
    """A network's bits in words: of all its quantized layers, or of each where they differ."""
    bits = (member.get("weight_bits"), member.get("activation_bits"))
    if "unknown" in bits:
        return "unknown precision"
    layers = [len(part) for part in bits if isinstance(part, list)]
    count = layers[0] if layers else 1
    pairs = zip(*(part if isinstance(part, list) else [part] * count for part in bits))
    found = [str(Precision.of(*pair)) for pair in pairs]
    if len(set(found)) == 1:
        return "full precision" if found[0] == str(FULL) else found[0]
    return "by layer " + ", ".join(found)
