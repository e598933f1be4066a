"""A Dask scheduler: at an address, named by a file, or started here with workers of its own."""

import asyncio
import concurrent.futures
import contextlib
import json
import logging
import os
import re
import signal
import time
import uuid
from dataclasses import dataclass
from typing import Any, Dict, Optional, Tuple

import dask
import distributed
import psutil
from distributed.security import Security

from empir.errors import EmpirError
from empir.records import runs

log = logging.getLogger(__name__)

#: Seconds in which a scheduler has to answer, and in which one that went away has to come back.
ANSWER, RETURN = 10, 120

#: Most workers that are started on this machine.
MOST_LOCAL = 256


@dataclass(frozen=True)
class Tls:
    """Files by which the ends of a connection know each other, all in PEM.

    Attributes:
      ca: certificate of the authority that has signed those of all processes.
      cert, key: this process's certificate, and its private key.
    """

    ca: str
    cert: str
    key: str

    def __post_init__(self):
        for name in ("ca", "cert", "key"):
            path = getattr(self, name)
            if not os.path.isfile(path):
                raise EmpirError(f"--tls_{name}={path}: no such file")

    def security(self) -> Security:
        """What Dask takes, for each of its processes: nothing is sent in the clear."""
        roles = {}
        for role in ("client", "worker", "scheduler"):
            roles.update({f"tls_{role}_cert": self.cert, f"tls_{role}_key": self.key})
        return Security(tls_ca_file=self.ca, require_encryption=True, **roles)


class Connection:
    """A connection to a Dask scheduler, which is made again if the scheduler went away.

    Args:
      target: tcp://HOST:PORT, tls://HOST:PORT, the path of a scheduler file, or local[:COUNT].
      tls: None takes what Dask's own configuration says.
      count: workers of local without a COUNT.

    Attributes:
      name: of this process among those that use the scheduler.
      known: what the driver knows of workers, by their addresses.

    Raises:
      EmpirError: for another text, or if no scheduler answers.
    """

    def __init__(self, target: str, tls: Optional[Tls] = None, count: int = 1):
        self.name = uuid.uuid4().hex
        self._target, self._count = target, _local_count(target, count)
        self._security = tls.security() if tls else None
        self._local: Any = None
        self._opened = contextlib.ExitStack()
        self.known: Dict[str, Any] = {}
        self._pids: Dict[str, int] = {}
        self._check(tls)
        logging.getLogger("distributed.client").setLevel(logging.getLogger("distributed").level)
        try:
            if self._count:
                self._local = self._start()
            self.client = self._connect()
        except BaseException:
            self._stop()
            raise
        log.info("%s; its dashboard is at %s", self._described(), self.client.dashboard_link)

    def _described(self):
        if self._count:
            return f"started {self._count} worker process{'es' * (self._count > 1)} here"
        return f"connected to the scheduler at {self.client.scheduler.address}"

    def _check(self, tls):
        target, config = self._target, dask.config.get("distributed.comm.tls.ca-file", None)
        if target.startswith("tls://") and not (tls or config):
            raise EmpirError(f"--scheduler={target} needs --tls_ca, --tls_cert and --tls_key")
        if target.startswith("tcp://") and tls:
            raise EmpirError(f"--scheduler={target}: with certificates the address is tls://...")
        if self._count or re.match(r"(tcp|tls)://[^/:]+:[0-9]{1,5}\Z", target):
            return
        if "://" in target:
            raise EmpirError(f"--scheduler={target}: write tcp://HOST:PORT or tls://HOST:PORT")
        if not os.path.isfile(target):
            raise EmpirError(
                f"--scheduler={target}: there is no such scheduler file; other values are "
                "tcp://HOST:PORT, tls://HOST:PORT, local and local:COUNT"
            )

    def _address(self):
        """Of the scheduler, by its file if there is one: a new scheduler writes a new one."""
        if self._count:
            return self._local.scheduler_address
        if "://" in self._target:
            return self._target
        for left in reversed(range(10)):
            try:
                with open(self._target) as file:
                    return json.load(file)["address"]
            except (OSError, ValueError, KeyError, TypeError) as error:
                if not (left and isinstance(error, ValueError)):
                    raise EmpirError(f"--scheduler={self._target} is no scheduler file ({error})")
            time.sleep(0.1)  # a scheduler that has just started may be writing it

    def _start(self):
        scheme = "tls://" if self._security else "tcp://"
        return distributed.LocalCluster(
            n_workers=self._count,
            threads_per_worker=1,
            processes=True,
            host=f"{scheme}127.0.0.1",
            protocol=scheme,
            memory_limit=0,
            silence_logs=logging.getLogger("distributed").level,
            local_directory=self._opened.enter_context(runs.temporary_folder()),
            dashboard_address="127.0.0.1:0",
            security=self._security,
        )

    def _connect(self):
        address = self._address()
        try:
            return distributed.Client(address, security=self._security, timeout=ANSWER)
        except (OSError, TypeError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise EmpirError(
                f"--scheduler={self._target}: no scheduler answers at {address} ({reason})"
            )

    @property
    def is_up(self) -> bool:
        """Whether the scheduler answers at the moment."""
        return self.client.status == "running"

    @property
    def is_lost(self) -> bool:
        """Whether the client has given the scheduler up, so that `restore` is needed."""
        return self.client.status in ("closed", "closing")

    def restore(self):
        """Connect to a scheduler that went away and comes back.

        Raises:
          EmpirError: if it does not come back within `RETURN` seconds.
        """
        log.warning("the scheduler went away; waiting for it")
        deadline = time.monotonic() + RETURN
        while True:
            try:
                self.client = self._connect()
                log.info("the scheduler is back")
                return
            except EmpirError as error:
                if time.monotonic() > deadline:
                    raise EmpirError(
                        f"{error}; when it is back, the same command goes on from what it kept, "
                        "attack scripts with --resume"
                    )
            time.sleep(1)

    def fetch(self, future: distributed.Future) -> "concurrent.futures.Future":
        """What a future gave, as it comes; the fetch may be cancelled.

        Dask's own coroutine must not be: one that is cancelled before it has begun to send fails
        all later ones of its client.
        """
        coming = self.client.gather(future, asynchronous=True)
        return asyncio.run_coroutine_threadsafe(_kept(coming), self.client.loop.asyncio_loop)

    def workers(self) -> Tuple[str, Dict[str, str]]:
        """A name of the scheduler's process; the address of each worker, and its name."""
        found = self.client.scheduler_info()
        named = {address: str(worker["name"]) for address, worker in found["workers"].items()}
        return found["id"], named

    def note(self, address: str, pid: int):
        """Remember the process of a worker that answered."""
        if self._local is not None:
            self._pids[address] = pid

    def kill(self, address: str):
        """End a worker that hangs, if this process has started it; another takes its place."""
        pid = self._pids.pop(address, None)
        if pid is not None:
            with contextlib.suppress(psutil.Error, OSError):
                if psutil.Process().pid in [p.pid for p in psutil.Process(pid).parents()]:
                    os.kill(pid, signal.SIGKILL)

    def close(self):
        """Disconnect, and end the workers that this process has started."""
        with contextlib.suppress(Exception):  # of a scheduler that went away
            self.client.close(timeout=5)
        self._stop()

    def _stop(self):
        if self._local is not None:
            with contextlib.suppress(Exception):
                self._local.close(timeout=20)
            for address in list(self._pids):  # a process that is stopped does not end otherwise
                self.kill(address)
        self._opened.close()


async def _kept(coming):
    return await asyncio.shield(coming)


def _local_count(target, count) -> int:
    """How many workers a text such as "local:4" means; 0 if it means none on this machine."""
    if target == "local":
        return count
    match = re.match(r"local:([0-9]{1,6})\Z", target)
    if match is None and target.startswith("local:"):
        raise EmpirError(f"--scheduler={target}: write local or local:COUNT, e.g. local:2")
    found = int(match.group(1)) if match else 0
    if match and not 1 <= found <= MOST_LOCAL:
        raise EmpirError(f"--scheduler={target}: COUNT is a number of 1..{MOST_LOCAL}")
    return found
