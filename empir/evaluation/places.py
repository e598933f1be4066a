"""Where the chunks of an evaluation are computed: in this process, or elsewhere.

An evaluation says what is computed of a chunk, as a function and as something that another process
can make the same function of; a place computes it. `empir.cluster` has the other place.
"""

import abc
import json
from typing import Callable, Dict, Iterator, Sequence, Tuple

import numpy as np

from empir.errors import EmpirError
from empir.records import provenance
from empir.records.chunks import ChunkStore

#: `compute(*arguments)` gives the arrays of a chunk.
Compute = Callable[..., dict]
#: `each(calls)` gives the number of each call and its arrays, in any order. A call is a function
#: that gives the arguments for `Compute`, when the chunk's turn has come.
Each = Callable[[Sequence[Callable[[], tuple]]], Iterator[Tuple[int, dict]]]

#: Array of a chunk that says who computed it, where that was another process.
WORKER = "worker"


class ChunkError(EmpirError):
    """A chunk cannot be computed.

    Args:
      number: of the call.
      reason: in words.
    """

    def __init__(self, number: int, reason: str):
        super().__init__(number, reason)
        self.number, self.reason = number, reason

    def __str__(self):
        return f"chunk {self.number} {self.reason}"


class Different(EmpirError):
    """A process would give other numbers than the one that asks it."""


class Place(abc.ABC):
    """Where chunks are computed."""

    #: How many chunks are computed at once.
    count = 1
    #: For a progress bar.
    status = ""

    @abc.abstractmethod
    def computing(self, local: Compute, remote: Callable) -> Each:
        """What computes chunks here.

        Args:
          local: computes a chunk in this process.
          remote: can be pickled; `remote(open, data)` is a context manager of the same function in
            another process, where `open(operations)` is `subjects.Source.open` on the data.
        """


class Here(Place):
    """Chunks are computed in this process, one after the other."""

    def computing(self, local: Compute, remote: Callable) -> Each:
        """See `Place.computing`."""
        return lambda calls: ((number, local(*call())) for number, call in enumerate(calls))


def told(worker: dict) -> np.ndarray:
    """The array `WORKER` of a worker's "name" and "environment" (`provenance.environment`)."""
    return np.array(json.dumps(worker, sort_keys=True))


def workers(store: ChunkStore, starts: Sequence[int]) -> list:
    """Who computed chunks: for each worker what it said of itself, "chunks" and "seconds".

    It is empty if all chunks were computed in the process that wrote them.
    """
    found = []
    for start in starts:
        text = store.optional(start, WORKER)
        if text is not None:
            seconds = float(store.column("seconds", [start]).sum())
            found.append(dict(json.loads(str(text)), chunks=1, seconds=seconds))
    return combined(found)


def combined(each: Sequence[dict]) -> list:
    """Several descriptions of `workers`, those of the same worker as one."""
    found: Dict[str, dict] = {}
    for told in each:
        key = json.dumps([told["name"], told["environment"]], sort_keys=True)
        before = found.get(key, dict(told, chunks=0, seconds=0.0))
        sums = {name: before[name] + told[name] for name in ("chunks", "seconds")}
        found[key] = dict(told, chunks=sums["chunks"], seconds=round(sums["seconds"], 3))
    return [found[key] for key in sorted(found)]


def describe(each: Sequence[dict], wall_seconds: float) -> dict:
    """What a record says of `workers`; nothing if there were none.

    Args:
      each: of `workers`.
      wall_seconds: of this process.
    """
    if not each:
        return {}
    own = provenance.environment()
    return {
        "cluster": {
            "workers": list(each),
            "seconds": round(sum(worker["seconds"] for worker in each), 3),
            "wall_seconds": round(wall_seconds, 3),
            "mixed_workers": any(worker["environment"] != own for worker in each),
        }
    }
