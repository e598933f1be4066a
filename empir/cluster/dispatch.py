"""Hands chunks out to workers: who computes which, and what if one is lost.

This process hands the chunks out one by one, so that a worker that is lost loses no more than the
one that it computes, and so that a worker which hangs is noticed. Dask carries them, and tells
which workers there are.
"""

import collections
import contextlib
import logging
import queue
import time
import warnings
from asyncio import CancelledError
from dataclasses import dataclass, field
from typing import Any, Callable, Deque, Iterator, List, Optional, Sequence, Tuple

from empir.cluster import work
from empir.cluster.connection import Connection
from empir.cluster.work import Outcome
from empir.errors import EmpirError
from empir.evaluation import places

log = logging.getLogger(__name__)

#: Chunks that a worker has at once, the one that it computes included: the next is there when it
#: is done.
AHEAD = 2
#: How often a chunk may fail.
MOST_FAILURES = 3
#: Seconds between two looks at which workers there are: at least, and at most, as a look may take
#: long.
LOOK, MOST_LOOK = 1.0, 10.0
#: Without a limit of one's own a chunk may take so many times as long as the longest before it,
#: and so many seconds at least.
TIMES_LONGEST, LEAST_LIMIT = 10, 60
#: Seconds in which a worker has to load what it computes with.
OPENING = 600
#: Chunks whose arrays are fetched at once, so that few are in this process's memory.
FETCHED = 8


@dataclass(eq=False)
class _Task:
    """A chunk on its way, or with `number` None the opening of the work on a worker."""

    number: Optional[int]
    call: Any = tuple
    failures: int = 0
    since: float = 0.0
    future: Any = None
    fetch: Any = None
    worker: Any = None


@dataclass(eq=False)
class _Worker:
    """A worker that is there.

    Attributes:
      address, name: of Dask.
      is_ready, key: whether the work is open on it, and the work that was opened last.
      is_out: whether it is left alone, as it refuses the work or hangs.
      late: the future of what it has not answered; None if it does not hang.
      failures: how often opening the work has failed.
      tasks: what it has to do, in order.
    """

    address: str
    name: str
    is_ready: bool = False
    key: str = ""
    is_out: bool = False
    late: Any = None
    failures: int = 0
    tasks: Deque[_Task] = field(default_factory=collections.deque)

    def __str__(self):
        return f"worker {self.name}" + f" at {self.address}" * (self.name != self.address)


class Dispatch:
    """The chunks of one attack, until all are computed: numbers and arrays, as they are done.

    Args:
      connection: to the scheduler.
      key, content: of `work.packed`.
      calls: give the arguments of each chunk.
      limit: seconds that a chunk may take; None: see `TIMES_LONGEST`.
      least: number of workers that must be ready before the first chunk is handed out.
      message: `message(needs)` is what a worker needs that has answered `work.NEEDS`.

    Raises:
      places.ChunkError: for a chunk that fails `MOST_FAILURES` times.
      EmpirError: if no worker may compute, or the scheduler is lost.
    """

    def __init__(
        self,
        connection: Connection,
        key: str,
        content: bytes,
        calls: Sequence[Callable[[], tuple]],
        *,
        limit: Optional[float],
        least: int,
        message: Callable,
    ):
        self._connection, self._key, self._content = connection, key, content
        self._limit, self._least, self._message = limit, least, message
        self._workers = connection.known
        self._left = collections.deque(_Task(number, call) for number, call in enumerate(calls))
        self._events: "queue.Queue[tuple]" = queue.Queue()
        self._done: Deque[tuple] = collections.deque()  # tasks and futures that are to be fetched
        self._fetching = 0
        self._longest = self._next_look = 0.0
        self._awake = time.monotonic()
        self._told, self._refusal = False, ""
        self._scheduler: Optional[str] = None
        self._sent: dict = {}  # what workers need -> the future of it
        for worker in self._workers.values():
            for task in worker.tasks:  # the opening of this work, begun during the last attack
                self._expect(task)

    def __iter__(self) -> Iterator[Tuple[int, dict]]:
        try:
            while True:
                self._look()
                self._hand_out()
                if not self._left and not any(map(_chunks, self._workers.values())):
                    return
                yield from self._fetched(self._finished())
        finally:
            for worker in self._workers.values():
                if _chunks(worker):
                    self._forget(worker)

    def _look(self):
        """See which workers have come, which are gone, and which hang."""
        now, before = time.monotonic(), self._awake
        self._awake = now
        if now - before > 3 * LOOK:  # this process was stopped, or wrote: that is not their time
            for worker in self._workers.values():
                for task in worker.tasks:
                    task.since += now - before
        if self._connection.is_lost:
            self._forget_all()
            self._connection.restore()
        elif now < self._next_look:
            return
        if not self._connection.is_up:
            return
        scheduler, there = self._connection.workers()
        if self._scheduler not in (None, scheduler):
            log.warning("the scheduler went away and is back; its workers join again")
            self._forget_all()
        self._scheduler = scheduler
        spent = time.monotonic() - now  # long of many workers, or of a scheduler that has just died
        self._next_look = time.monotonic() + min(max(LOOK, 20 * spent), MOST_LOOK)
        for address in sorted(set(self._workers) - set(there)):
            worker = self._workers.pop(address)
            if not worker.is_out:
                log.warning("%s is gone (%d left)", worker, len(self._workers))
            self._take_back(worker, f"{worker} was lost")
        for address in sorted(set(there) - set(self._workers)):
            self._workers[address] = _Worker(address, there[address])
            log.info("%s is there (%d in all)", self._workers[address], len(self._workers))
        for worker in self._workers.values():
            self._look_after(worker, now)
        self._check_any()

    def _look_after(self, worker, now):
        """See whether a worker hangs, or does no more."""
        limit = self._limit_of(worker)
        if worker.late is not None and worker.late.done():
            log.info("%s answers again", worker)
            worker.is_out, worker.late = False, None
        if limit is not None and worker.tasks and now - worker.tasks[0].since > limit:
            log.warning("%s has not answered for %.0f s and is left alone", worker, limit)
            worker.late = worker.tasks[0].future
            self._leave(worker, f"{worker} did not finish it in {limit:.0f} s")
            self._connection.kill(worker.address)

    def _forget_all(self):
        """Give what all workers had to those that will come, after the scheduler was lost."""
        for worker in self._workers.values():
            self._take_back(worker)
        self._workers.clear()

    def _limit_of(self, worker):
        """Seconds that what a worker does may take; None if nothing is known of it."""
        if not worker.is_ready:
            return OPENING
        if self._limit is not None or not self._longest:
            return self._limit
        return max(LEAST_LIMIT, TIMES_LONGEST * self._longest)

    def _check_any(self):
        """Raise `EmpirError` if no worker computes and none that is there will."""
        if any(not worker.is_out for worker in self._workers.values()):
            self._told = False
            return
        if self._workers and self._refusal:
            raise EmpirError(self._refusal)
        if not self._told:
            self._told = True
            log.info("waiting for workers")

    def _leave(self, worker, problem=""):
        """Leave a worker alone, and give what it had to others."""
        worker.is_out, worker.is_ready = True, False
        self._take_back(worker, problem)

    def _take_back(self, worker, problem=""):
        """Give what a worker had to others; with a problem, what it was computing has failed."""
        tasks = _chunks(worker)
        self._forget(worker)
        self._left.extendleft(reversed(tasks))
        if problem and tasks:
            self._fail(tasks[0], problem)

    def _forget(self, worker):
        for task in worker.tasks:
            if task.fetch is not None:
                task.fetch.cancel()
            task.worker = task.future = task.fetch = None  # Dask forgets what nobody refers to
        worker.tasks.clear()

    def _fail(self, task, problem):
        task.failures += 1
        log.debug("chunk %s: %s", task.number, problem)
        if task.failures == MOST_FAILURES:
            reason = f"failed {MOST_FAILURES} times: {problem}; what is finished is kept"
            raise places.ChunkError(task.number, reason)

    def _hand_out(self):
        """Give workers what they have time for."""
        if not self._connection.is_up:
            return
        free = [worker for worker in self._workers.values() if not worker.is_out]
        for worker in free:
            if not worker.is_ready and not worker.tasks:
                self._open(worker)
        if sum(worker.is_ready for worker in free) < self._least:
            return
        self._least = 0
        for depth in range(1, AHEAD + 1):
            kept = len(free) if depth > 1 else 0  # the last chunks are for whoever is free first
            for worker in free:
                if worker.is_ready and len(worker.tasks) < depth and len(self._left) > kept:
                    task = self._left.popleft()
                    self._submit(worker, task, work.compute, task.call())

    def _open(self, worker, sent=None):
        task, worker.key = _Task(None), self._key
        arguments = (self._content,) if sent is None else (self._content, sent)
        self._submit(worker, task, work.begin, *arguments)

    def _submit(self, worker, task, function, *arguments):
        connection = self._connection
        options = dict(workers=[worker.address], allow_other_workers=False, pure=False)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that starting images are large
                task.future = connection.client.submit(
                    function, connection.name, self._key, *arguments, **options
                )
        except Exception:  # Dask's own, where the scheduler went away
            if connection.is_up:
                raise
            if task.number is not None:
                self._left.appendleft(task)
            return
        task.worker, task.since = worker, time.monotonic()
        worker.tasks.append(task)
        self._expect(task)

    def _expect(self, task):
        task.future.add_done_callback(lambda future: self._events.put((task, future, None)))

    def _finished(self) -> List[Tuple[_Task, Any]]:
        """Tasks that have come to an end and what they gave, after a wait for them."""
        found: list = []
        wait = LOOK
        while len(found) < FETCHED:
            try:
                task, future, fetch = self._events.get(timeout=wait)
            except queue.Empty:
                break
            wait = 0.0
            self._fetching -= fetch is not None
            if task.future is future and task.worker is not None:
                (self._done if fetch is None else found).append((task, fetch or future))
        while self._done and self._fetching < FETCHED:
            self._fetch(*self._done.popleft())
        return found

    def _fetch(self, task, future):
        """Begin to fetch what a task gave, which its worker may have no more."""
        if task.future is future:
            self._fetching += 1
            task.fetch = self._connection.fetch(future)
            task.fetch.add_done_callback(lambda fetch: self._events.put((task, future, fetch)))

    def _fetched(self, finished) -> Iterator[Tuple[int, dict]]:
        """What became of tasks; gives the arrays of those that are chunks."""
        done = []
        for task, fetch in finished:
            outcome, worker = self._outcome(task, fetch), task.worker
            if worker is None:  # it was left alone, for another of these tasks
                continue
            now, was_first = time.monotonic(), worker.tasks[0] is task
            seconds = now - task.since
            worker.tasks.remove(task)
            task.worker = task.future = task.fetch = None
            if was_first and worker.tasks:
                worker.tasks[0].since = now
            if task.number is None:
                self._opened(worker, outcome)
            elif outcome is not None and outcome.kind == work.DONE:
                self._longest = max(self._longest, seconds)
                done.append((task.number, outcome.value))
            else:
                self._undone(worker, task, outcome)
        self._hand_out()  # before what is done is written
        yield from done

    def _outcome(self, task, fetch) -> Optional[Outcome]:
        """What became of a task; None if it went lost."""
        try:
            return fetch.result()
        except CancelledError:
            return None
        except Exception as error:  # Dask's, or what could not be sent
            lost = task.future is None or task.future.status in ("pending", "cancelled", "lost")
            if lost or not self._connection.is_up:
                return None
            return Outcome(work.FAILED, text=" ".join(f"{type(error).__name__}: {error}".split()))

    def _undone(self, worker, task, outcome):
        """Give a chunk to another worker."""
        self._left.appendleft(task)
        if outcome is None:
            return
        if outcome.kind == work.UNKNOWN:
            worker.is_ready = False
        elif outcome.kind == work.REFUSED:
            self._refuse(worker, outcome.text)
        else:
            self._fail(task, f"{worker} says: {outcome.text}")

    def _opened(self, worker, outcome):
        """A worker has answered to the opening of the work."""
        if outcome is None:
            return
        if outcome.kind == work.DONE:
            worker.is_ready = True
            self._connection.note(worker.address, outcome.value["pid"])
        elif outcome.kind == work.NEEDS:
            with contextlib.suppress(OSError):  # the scheduler went away: it is asked again
                self._open(worker, self._scattered(outcome.value))
        elif outcome.kind == work.REFUSED:
            self._refuse(worker, outcome.text)
        else:
            worker.failures += 1
            if worker.failures == MOST_FAILURES:
                self._refuse(worker, outcome.text)

    def _refuse(self, worker, text):
        self._refusal = f"{worker} is not used: {text}"
        log.warning("%s", self._refusal)
        self._leave(worker)

    def _scattered(self, needs):
        """The future of what a worker does not see: workers fetch it from each other."""
        key = repr(sorted(needs.items()))
        future = self._sent.get(key)
        if future is None or future.status != "finished":
            client = self._connection.client
            future = self._sent[key] = client.scatter(self._message(needs), hash=False)
        return future


def _chunks(worker):
    """What a worker has to do, without the opening of the work."""
    return [task for task in worker.tasks if task.number is not None]
