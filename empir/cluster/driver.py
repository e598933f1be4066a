"""The place where chunks are computed by the workers of a Dask scheduler."""

import functools
import os
from typing import Callable, Iterator, Optional, Sequence, Tuple

import distributed

from empir import runtime
from empir.cluster import work
from empir.cluster.connection import Connection
from empir.cluster.dispatch import Dispatch
from empir.cluster.work import Subject, Work
from empir.data import Dataset
from empir.evaluation import places
from empir.records import provenance


class OnWorkers(places.Place):
    """Chunks are computed by the workers of a scheduler.

    Args:
      connection: to the scheduler.
      subject: what is attacked.
      data: its images, for workers that do not see them.
      threads: number of threads that each worker computes with.
      mixed: whether workers may differ from this process in version or processor.
      limit: seconds that a chunk may take; None: see `dispatch.TIMES_LONGEST`.
      least: number of workers that must be ready before the first chunk of an attack is handed out.
      imports: see `work.packed`.
    """

    def __init__(
        self,
        connection: Connection,
        subject: Subject,
        data: Dataset,
        *,
        threads: int,
        mixed: bool = False,
        limit: Optional[float] = None,
        least: int = 1,
        imports: Sequence[Callable] = (),
    ):
        self._connection, self._subject, self._data = connection, subject, data
        self._threads, self._mixed, self._limit, self._least = threads, mixed, limit, least
        self._imports, self._workers = tuple(imports), connection.known

    @property
    def count(self) -> int:  # type: ignore[override]  # a constant of other places
        """How many workers compute."""
        return max(1, sum(worker.is_ready for worker in self._workers.values()))

    @property
    def status(self) -> str:  # type: ignore[override]
        """How many workers there are, in words."""
        count = sum(not worker.is_out for worker in self._workers.values())
        return f"{count} worker{'s' * (count != 1)}"

    def computing(self, local: Callable, remote: Callable) -> places.Each:
        """See `places.Place.computing`."""
        asked = Work(
            subject=self._subject,
            make=remote,
            environment=provenance.environment(),
            mixed=self._mixed,
            threads=self._threads,
            parallelism=runtime.parallelism(),
            variables={name: os.environ.get(name) for name in work.VARIABLES},
        )
        key, content = work.packed(asked, self._imports)
        return functools.partial(self._each, key, content)

    def _each(self, key, content, calls) -> Iterator[Tuple[int, dict]]:
        for worker in self._workers.values():
            if worker.key != key:
                worker.tasks.clear()
                worker.is_ready, worker.is_out = False, worker.late is not None
                worker.failures = 0
        message = functools.partial(work.message, self._subject, self._data)
        yield from Dispatch(
            self._connection,
            key,
            content,
            calls,
            limit=self._limit,
            least=self._least,
            message=message,
        )


def end(connection: Connection):
    """Close this process's work on all workers, without a wait for it."""
    if connection.is_up:
        for address in connection.known:
            options = dict(workers=[address], pure=False)
            future = connection.client.submit(work.end, connection.name, **options)
            distributed.fire_and_forget(future)
