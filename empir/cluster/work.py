"""What a Dask worker runs: chunks of evaluations, whose networks and images it keeps.

A worker computes one chunk at a time, in a thread of its own, because TensorFlow's default graph
and session are a thread's. It refuses work that would give other numbers than with the driver.
"""

import collections
import contextlib
import functools
import hashlib
import os
import pickle
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import distributed
import numpy as np

from empir import runtime
from empir.data import Dataset
from empir.errors import EmpirError
from empir.evaluation import places
from empir.evaluation.subjects import Source
from empir.models import checkpoint_files
from empir.records import provenance

#: What becomes of a call: it is done; it needs what the driver has to send; this worker must not do
#: it; it failed; or the worker does not know the work (it is new, or was started again).
DONE, NEEDS, REFUSED, FAILED, UNKNOWN = "done", "needs", "refused", "failed", "unknown"

#: A worker keeps the networks of so many drivers, those of the last ones.
MOST_DRIVERS = 4

#: Variables of the environment that change numbers by rounding, and that Dask sets for its workers.
VARIABLES = ("MKL_NUM_THREADS",)


class Outcome(NamedTuple):
    """What became of a call.

    Attributes:
      kind: one of the above.
      value: a chunk's arrays, or what the worker says of itself.
      text: what was wrong.
    """

    kind: str
    value: Any = None
    text: str = ""


@dataclass(frozen=True)
class Subject:
    """What is attacked, and how other processes come by it.

    Attributes:
      source: the networks; its paths are absolute.
      data: what `Dataset.describe` says of the images.
      count: number of images.
      load: gives the whole split where its files are seen; None: the images are sent.
      images: what the driver gave `runtime.configure` as such.
    """

    source: Source
    data: Mapping[str, Any]
    count: int
    load: Optional[Callable[[], Dataset]]
    images: int

    @property
    def paths(self) -> List[str]:
        """Paths of all files and checkpoints."""
        members = [] if self.source.arrays is not None else list(self.source.members)
        paths = [member.path for member in (*members, *self.source.outside)]
        return [*self.source.models, *(path for path in paths if path is not None)]


@dataclass(frozen=True)
class Work:
    """An evaluation as it is sent to workers.

    Attributes:
      subject: what is attacked.
      make: see `places.Place.computing`, its `remote`.
      environment: the driver's, of `provenance.environment`.
      mixed: whether the worker's may be another.
      threads: number of threads to compute with.
      parallelism: `runtime.parallelism` of the driver.
      variables: the driver's `VARIABLES`.
    """

    subject: Subject
    make: Callable
    environment: Mapping[str, Any]
    mixed: bool
    threads: int
    parallelism: str
    variables: Mapping[str, Optional[str]]


@dataclass(frozen=True)
class Sent:
    """What a worker does not see, as a message.

    Attributes:
      data: the images; None if they are seen.
      sha256: their digest.
      files: path of a network -> its name in a folder, "" for the folder itself, and the content of
        each file in that folder.
    """

    data: Optional[Dataset]
    sha256: str
    files: Mapping[str, Tuple[str, Mapping[str, bytes]]]


@dataclass
class _Held:
    """Work that is open."""

    key: str
    compute: Callable
    opened: contextlib.ExitStack
    told: Dict[str, Any] = field(default_factory=dict)


_thread = ThreadPoolExecutor(1)
_held: Dict[str, _Held] = collections.OrderedDict()
_configured = False


def begin(driver: str, key: str, content: bytes, sent: Optional[Sent] = None) -> Outcome:
    """Open work, in place of what the driver's work was before; run by a Dask worker.

    Args:
      driver: names the driver.
      key: names the work.
      content: of `packed`.
      sent: what this worker answered before that it needs.
    """
    name = str(distributed.get_worker().name)
    return _thread.submit(_guarded, _begin, driver, key, content, sent, name).result()


def compute(driver: str, key: str, call: tuple) -> Outcome:
    """Compute a chunk; run by a Dask worker."""
    return _thread.submit(_guarded, _compute, driver, key, call).result()


def end(driver: str):
    """Close a driver's work; run by a Dask worker."""
    _thread.submit(_close, driver).result()


def packed(work: Work, imports: Sequence[Callable] = ()) -> Tuple[str, bytes]:
    """A work's name, which is the same for the same work, and its content as it is sent.

    Args:
      work: can be pickled.
      imports: are called before the work is unpickled, such as what imports a user's own network.
    """
    content = pickle.dumps((tuple(imports), pickle.dumps(work, 4)), 4)
    return hashlib.sha256(content).hexdigest(), content


def _guarded(function, *arguments) -> Outcome:
    """What a function returns; an exception as an outcome, as not every one can be sent."""
    try:
        return function(*arguments)
    except places.Different as error:
        return Outcome(REFUSED, text=str(error))
    except EmpirError as error:
        return Outcome(FAILED, text=str(error))
    except Exception as error:  # of whatever kind a machine that is full or broken gives
        return Outcome(FAILED, text=" ".join(f"{type(error).__name__}: {error}".split()))


def _begin(driver, key, content, sent, name):
    _close(driver)
    while len(_held) >= MOST_DRIVERS:
        _close(next(iter(_held)))
    imports, inner = pickle.loads(content)
    for function in imports:
        function()
    work = pickle.loads(inner)
    _configure(work)
    environment = _environment()
    if not work.mixed:
        _compare(environment, work.environment)
    data, missing = _data(work.subject, sent), _missing(work.subject)
    if sent is None and (data is None or missing):
        return Outcome(NEEDS, dict(data=data is None, files=missing))
    with contextlib.ExitStack() as stack:
        source = _placed(work.subject.source, missing, sent, stack)
        opening = functools.partial(_opened, source, data)
        made = stack.enter_context(work.make(opening, data))
        held = _Held(key, made, stack.pop_all())
    held.told = dict(name=name, environment=environment)
    _held[driver] = held
    return Outcome(DONE, dict(held.told, pid=os.getpid()))


def _compute(driver, key, call):
    held = _held.get(driver)
    if held is None or held.key != key:
        return Outcome(UNKNOWN)
    return Outcome(DONE, dict(held.compute(*call), **{places.WORKER: places.told(held.told)}))


def _close(driver):
    held = _held.pop(driver, None)
    if held is not None:
        held.opened.close()


def _configure(work):
    """Set the driver's number of threads, which TensorFlow reads once in the life of a process."""
    global _configured
    if not _configured:
        _configured = True
        for name, value in work.variables.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        runtime.configure(work.threads, work.subject.images)
    if runtime.parallelism() != work.parallelism:
        raise places.Different(
            f"it computes with {runtime.parallelism()}, the driver with {work.parallelism}: start "
            "the worker again, or give another --num_threads"
        )


@functools.lru_cache(maxsize=None)
def _environment():
    return provenance.environment()


def _compare(here, there):
    differing = [
        f"{name} is {here.get(name)} there, {there.get(name)} with the driver"
        for name in sorted({*here, *there})
        if here.get(name) != there.get(name)
    ]
    if differing:
        raise places.Different(f"{'; '.join(differing)}: --mixed_workers accepts that")


def _data(subject, sent) -> Optional[Dataset]:
    """The images, read if they are seen; None if they have to be sent."""
    if sent is not None and sent.data is not None:
        found = sent.data.digest()
        if found != sent.sha256:
            raise places.Different(
                f"the images that came have sha256 {found}, those sent {sent.sha256}"
            )
        return sent.data
    if subject.load is None:
        return None
    try:
        data = subject.load().described(subject.data, subject.count)
    except (EmpirError, OSError):
        return None
    return data if data.describe()["sha256"] == subject.data["sha256"] else None


def _missing(subject) -> list:
    """Paths of networks that are not seen here."""
    return [
        path
        for path in subject.paths
        if not (os.path.isfile(path) or checkpoint_files.has_checkpoint(path))
    ]


def _placed(source, missing, sent, stack) -> Source:
    """The source whose missing networks are in a temporary folder."""
    if not missing:
        return source
    places_of = {}
    for number, path in enumerate(missing):
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix=f"empir-{number}-"))
        inside, files = sent.files[path]
        for name, content in files.items():
            with open(os.path.join(folder, name), "wb") as file:
                file.write(content)
        places_of[path] = os.path.join(folder, inside)

    def moved(members):
        return tuple(replace(m, path=places_of.get(m.path, m.path)) for m in members)

    return replace(
        source,
        members=moved(source.members),
        outside=moved(source.outside),
        models=tuple(places_of.get(path, path) for path in source.models),
    )


def _opened(source, data, operations=1):
    return source.open(data, operations)


def message(subject: Subject, data: Dataset, needs: dict) -> Sent:
    """What a worker needs that does not see it.

    Args:
      subject: of the work.
      data: the driver's images.
      needs: what `begin` answered.

    Raises:
      EmpirError: for more images than can be sent.
    """
    files = {path: _files(path) for path in needs["files"]}
    if not needs["data"]:
        return Sent(None, "", files)
    if not isinstance(data.images, np.ndarray):
        size = 4 * len(data.labels) * int(np.prod(data.images.shape[1:]))
        if size > MOST_BYTES:
            raise EmpirError(
                f"a worker does not see {data.source}, and {size / 2**30:.1f} GiB of images are "
                "too many to be sent: mount that folder there, at the same path"
            )
        rows = np.arange(len(data.labels))
        data = replace(data, images=data.images[rows], labels=np.asarray(data.labels[rows]))
    return Sent(data, data.digest(), files)


#: Bytes of images that are sent, at most, of a dataset that is read as it is needed.
MOST_BYTES = 2**31


def _files(path) -> Tuple[str, Dict[str, bytes]]:
    """A network's entry in `Sent.files`."""
    if os.path.isfile(path):
        inside, folder, names = os.path.basename(path), os.path.dirname(path), None
    else:
        folder, inside = os.path.split(checkpoint_files.find_prefix(path))
        names = [n for n in os.listdir(folder) if n.startswith((inside + ".", "training.json"))]
    found = {}
    for name in sorted(names or [inside]):
        with open(os.path.join(folder, name), "rb") as file:
            found[name] = file.read()
    return inside, found
