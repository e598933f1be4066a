"""Several processes that train one network together, on one machine or several.

Each process is started with the same command and its own TF_CONFIG, TensorFlow's description of who
there is and which one this is:

    TF_CONFIG='{"cluster": {"worker": ["host1:2222", "host2:2222"]},
                "task": {"type": "worker", "index": 0}}'

They share every batch: each computes the gradient of its part, and all get the sum. The first one,
the chief, writes; all see the same folders. If one ends, the others end too, and the same commands
go on with --resume.
"""

import contextlib
import json
import logging
import os
import re
import socket
import threading
from dataclasses import dataclass, field
from typing import Any, Sequence

from empir import runtime
from empir.errors import EmpirError

log = logging.getLogger(__name__)

VARIABLE = "TF_CONFIG"
#: Seconds between two looks at another process, and how many in a row may fail.
LOOK, MOST_MISSED = 2.0, 3
_WANTED = '{"cluster": {"worker": ["HOST:PORT", ...]}, "task": {"type": "worker", "index": 0}}'


class Alone:
    """The one process of a training, as `Workers` are several.

    Attributes:
      count: how many processes there are.
      is_chief: whether this is the process that writes.
    """

    count, is_chief = 1, True

    def part(self, rows):
        """Those of a batch's rows, or of as many values, that this process computes."""
        return rows

    def total(self, count):
        """Number of images of a whole batch, from that of this process's part."""
        return count

    def replica(self, number, count) -> slice:
        """Those of this process's rows that a replica computes, by its number among all."""
        return slice(number, None, count)

    def check(self, size: int):
        """Raise `EmpirError` unless a batch of that size has equal parts for all."""

    def strategy_of(self, devices):
        """The `tf.distribute` strategy by which processes and devices share; None for one."""
        from empir.runtime import tf

        return tf.distribute.MirroredStrategy(devices) if len(devices) > 1 else None

    def session(self, graph):
        """This process's session."""
        return runtime.session(graph)

    def watched(self):
        """A context in which this process ends if another one does."""
        return contextlib.nullcontext()

    def note_all_there(self):
        """Say that all processes are known to be there."""


@dataclass(frozen=True, eq=False)
class Workers(Alone):
    """The processes of a training.

    Attributes:
      addresses: HOST:PORT of each.
      number: of this process, from 0.
      strategy: the `tf.distribute` strategy by which they share.
      target, config: of this process's session.
      met: is set once all processes are known to be there.
    """

    addresses: Sequence[str]
    number: int
    strategy: Any
    target: str
    config: Any
    met: threading.Event = field(default_factory=threading.Event)

    @property
    def count(self) -> int:  # type: ignore[override]  # a constant of one process
        """How many processes there are."""
        return len(self.addresses)

    @property
    def is_chief(self) -> bool:  # type: ignore[override]
        """Whether this is the process that writes."""
        return self.number == 0

    def part(self, rows):
        """See `Alone.part`."""
        return rows[self.number :: self.count]

    def total(self, count):
        """See `Alone.total`."""
        return count * self.count

    def replica(self, number, count) -> slice:
        """See `Alone.replica`."""
        here = count // self.count
        return slice(number % here, None, here)

    def strategy_of(self, devices):
        """See `Alone.strategy_of`; these take the devices that they see."""
        return self.strategy

    def note_all_there(self):
        """See `Alone.note_all_there`."""
        self.met.set()

    def check(self, size: int):
        """Raise `EmpirError` unless a batch of that size has equal parts for all."""
        if size % self.count:
            raise EmpirError(
                f"batches of {size} images cannot be shared by {self.count} workers: take a "
                "--batch_size that is a multiple of their number"
            )

    def session(self, graph):
        """This process's session, which reaches the others."""
        from empir.runtime import tf

        return tf.Session(self.target, graph=graph, config=self.config)

    @contextlib.contextmanager
    def watched(self):
        """End this process if the next one, once all have met, ends while the block runs.

        TensorFlow's collective operations wait for a process that is gone for ever, and no signal
        handler of Python runs meanwhile.
        """
        over = threading.Event()
        threading.Thread(target=self._watch, args=(over,), daemon=True).start()
        try:
            yield
        finally:
            over.set()

    def _watch(self, over):
        address, missed = self.addresses[(self.number + 1) % self.count], 0
        while missed < MOST_MISSED:
            if over.wait(LOOK):
                return
            if _listens(address):
                missed = 0
                self.met.set()
            elif self.met.is_set():
                missed += 1
        log.error("the worker at %s is gone: start all of them again with --resume", address)
        os._exit(1)


def _listens(address):
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=LOOK).close()
    except OSError:
        return False
    return True


def from_environment() -> Alone:
    """The processes that TF_CONFIG names, connected; `Alone` if it is not set or names one.

    Raises:
      EmpirError: if it says anything else, or this process's address cannot be had.
    """
    text = os.environ.get(VARIABLE, "").strip()
    addresses, number = _parsed(text) if text else ([], 0)
    if len(addresses) < 2:
        return Alone()

    from empir.runtime import tf

    strategy = tf.distribute.experimental.MultiWorkerMirroredStrategy()
    config = strategy.update_config_proto(runtime.session_config())
    config.use_per_session_threads = False  # which a session on a server refuses
    # The allocator that this strategy asks for fails on graphs of Keras 2.2.4 ("Upper bound check
    # fail"), and TensorFlow's other rewriting of collective operations relies on it.
    options = config.graph_options.rewrite_options
    options.scoped_allocator_optimization = options.OFF
    del options.scoped_allocator_opts.enable_op[:]
    options.disable_meta_optimizer = True
    try:
        server = tf.distribute.Server(
            {"worker": addresses}, job_name="worker", task_index=number, config=config
        )
    except tf.errors.OpError as error:
        raise EmpirError(
            f"{VARIABLE}: this worker cannot listen at {addresses[number]} "
            f"({error.message.splitlines()[0]})"
        )
    return Workers(addresses, number, strategy, server.target, config)


def _parsed(text):
    """The workers' addresses, and which one this process is."""
    try:
        content = json.loads(text)
        cluster, task = content["cluster"], content["task"]
        addresses, number = list(cluster["worker"]), int(task["index"])
        valid = set(cluster) == {"worker"} and task["type"] == "worker"
        valid = valid and all(re.match(r".+:[0-9]{1,5}\Z", address) for address in addresses)
        valid = valid and 0 <= number < len(addresses)
    except (ValueError, KeyError, TypeError, AttributeError):
        valid = False
    if not valid:
        raise EmpirError(f"{VARIABLE}={text}: write {_WANTED}")
    return addresses, number
