"""Parts of an evaluation that are computed by processes that know nothing of each other.

A shard is a range of an evaluation's chunks. Each is computed into a folder of its own, which says
in `PART` what it is a part of; `merge` makes the whole evaluation of all of them, byte for byte
that of one process, because the chunks are the same.
"""

import os
import re
from dataclasses import dataclass
from typing import Any, Dict, List, Sequence, Tuple

from empir.errors import EmpirError
from empir.evaluation.runner import chunk_starts
from empir.records import chunks, runs

#: File that says what a finished shard is a part of, in the shard's --out.
PART = "part.json"


@dataclass(frozen=True)
class Shard:
    """One of several ranges of an evaluation's chunks, written NUMBER/COUNT.

    Attributes:
      number: which one, from 1.
      count: how many there are.
    """

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """The shard that a text such as "2/8" means; `EmpirError` for any other text."""
        match = re.match(r"([0-9]{1,6})/([0-9]{1,6})\Z", text)
        shard = cls(*map(int, match.groups())) if match else cls(0, 0)
        if not 1 <= shard.number <= shard.count:
            raise EmpirError(f"--shard={text}: write NUMBER/COUNT, e.g. 1/8 to 8/8")
        return shard

    def __str__(self):
        return f"{self.number}/{self.count}"

    def range_of(self, items: int) -> range:
        """Which of so many things are the shard's: consecutive ones, one more or less than others'.

        Raises:
          EmpirError: if there are fewer things than shards.
        """
        if items < self.count:
            raise EmpirError(
                f"--shard={self}: there are {items} chunks of images: give at most as many shards"
            )
        first, last = ((n * items) // self.count for n in (self.number - 1, self.number))
        return range(first, last)


def describe(head: dict, shard: Shard) -> dict:
    """What the folder of a shard's chunks is of: the evaluation, and which part."""
    return dict(head, shard=str(shard))


@dataclass(frozen=True)
class Part:
    """A finished shard on the disk.

    Attributes:
      folder: where it is.
      content: of its `PART`.
      shard: which one it is.
    """

    folder: str
    content: Dict[str, Any]
    shard: Shard

    @classmethod
    def read(cls, folder: str) -> "Part":
        """The part in a folder; `EmpirError` if its `PART` is damaged."""
        path = os.path.join(folder, PART)
        content = runs.read_json(path)
        kinds = dict(shard=str, head=dict, columns=list, chunks=list, environment=dict)
        wrong = [key for key, kind in kinds.items() if not isinstance(content.get(key), kind)]
        if wrong:
            raise EmpirError(f"{path} has no valid {wrong[0]}: compute the shard again")
        return cls(folder, content, Shard.parse(content["shard"]))

    def store(self) -> chunks.ChunkStore:
        """Its chunks, each of which is whole and of this evaluation.

        Raises:
          EmpirError: if one is missing or damaged.
        """
        content, folder = self.content, os.path.join(self.folder, runs.PARTIAL)
        store = chunks.ChunkStore(folder, runs.digest(content["head"]), content.get("how", ""))
        for start, rows in content["chunks"]:
            if not store.holds(start, rows, (*content["columns"], "seconds")):
                raise EmpirError(
                    f"{self.folder} lacks the chunk of example {start} of shard {self.shard}: run "
                    "the shard again with --resume"
                )
        return store


def write(folder: str, head: dict, shard: Shard, **content):
    """Write the `PART` of a shard that is finished.

    Args:
      folder: its --out.
      head: what the whole evaluation computes.
      shard: which part it is.
      **content: columns, chunks, and what else the record of the whole is made of.
    """
    runs.write_json(os.path.join(folder, PART), dict(shard=str(shard), head=head, **content))


def find(folders: Sequence[str]) -> Dict[str, List[Part]]:
    """The parts below some folders: path within its folder -> parts.

    Raises:
      EmpirError: if a folder holds none.
    """
    found: Dict[str, List[Part]] = {}
    for folder in folders:
        places = [place for place, _, names in os.walk(folder) if PART in names]
        if not places:
            raise EmpirError(f"{folder} holds no finished shard: it has no {PART}")
        for place in sorted(places):
            found.setdefault(os.path.relpath(place, folder), []).append(Part.read(place))
    return found


def check_whole(parts: Sequence[Part], mixed: bool = False):
    """Raise `EmpirError` unless the parts are all shards of one evaluation, each one once.

    Args:
      parts: at least one.
      mixed: whether they may come from different processors or versions.
    """
    first = parts[0]
    for part in parts[1:]:
        changed = runs.differences(first.content["head"], part.content["head"])
        if changed:
            raise EmpirError(
                f"{part.folder} is a part of another evaluation than {first.folder} "
                f"({'; '.join(changed)})"
            )
        if part.shard.count != first.shard.count:
            raise EmpirError(
                f"{part.folder} is shard {part.shard}, but {first.folder} is {first.shard}: they "
                "are of different numbers of shards"
            )
        changed = runs.differences(first.content["environment"], part.content["environment"])
        if changed and not mixed:
            raise EmpirError(
                f"{part.folder} was computed elsewhere than {first.folder} ({'; '.join(changed)}), "
                "so numbers differ by rounding: --mixed accepts that"
            )
    by_number: Dict[int, Part] = {}
    for part in parts:
        other = by_number.setdefault(part.shard.number, part)
        if other is not part:
            raise EmpirError(f"{other.folder} and {part.folder} are both shard {part.shard}")
    missing = [str(n) for n in range(1, first.shard.count + 1) if n not in by_number]
    if missing:
        raise EmpirError(
            f"shard {', '.join(missing)} of {first.shard.count} is missing: {first.folder} is "
            f"shard {first.shard.number}; name the folders of all shards"
        )


def merge(parts: Sequence[Part]) -> Tuple[chunks.ChunkStore, List[int]]:
    """The chunks of a whole evaluation, and the index of each one's first example.

    Args:
      parts: all its shards, see `check_whole`.

    Raises:
      EmpirError: if a chunk is missing or damaged.
    """
    ordered = sorted(parts, key=lambda part: part.shard.number)
    stores = [part.store() for part in ordered]
    told = [part.content["chunks"] for part in ordered]
    starts = [start for part in told for start, _ in part]
    rows = [range(count) for part in told for _, count in part]
    wanted = ordered[0].content["head"]["num_examples"]
    if starts != chunk_starts(rows) or sum(map(len, rows)) != wanted:
        raise EmpirError(f"{ordered[0].folder} and the others do not make up the evaluation")
    places = {start: store for store, part in zip(stores, told) for start, _ in part}
    return chunks.JoinedStore(places), starts
