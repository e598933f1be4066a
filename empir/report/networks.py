"""Names of the networks of a record in reports: their files and their precisions."""

import os
from typing import List, Sequence

from empir.nn.precision import FULL, Precision

#: Architecture in the record of Keras models, which are not built by this project.
KERAS = "Keras"


def title(record: dict) -> str:
    """Architecture or, for Keras models, the names of their files, and the number of members."""
    members, name = record["members"], record["architecture"]
    if name == KERAS:
        name = ", ".join(names(members))
    return "%s, %d members" % (name, len(members)) if len(members) > 1 else name


def names(members: Sequence[dict]) -> List[str]:
    """A name for each network: that of its file, or its path if two files have the same name.

    Networks without a file, and networks with the same path, are numbered.
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
    """A network's precision in words, for each quantized layer if they differ."""
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
