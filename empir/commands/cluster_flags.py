"""The flags by which an evaluation is computed by several processes or machines."""

import contextlib
import functools
import os
from types import MappingProxyType
from typing import TYPE_CHECKING, Callable, Mapping, Optional, Sequence

from absl import flags

from empir.commands import shared_flags
from empir.errors import EmpirError

if TYPE_CHECKING:
    from empir.evaluation.shards import Shard

FLAGS = flags.FLAGS

#: Why what draws at random is computed by one process.
DRAWS = "what draws at random depends on what was computed before"

TLS = ("tls_ca", "tls_cert", "tls_key")


def define_shard():
    """Define --shard."""
    shared_flags.define_texts(
        shard="Compute one of several parts, e.g. 1/8 to 8/8, each with an --out of its own; empir "
        "merge makes the whole of them. By default everything is computed."
    )


def define_scheduler():
    """Define --scheduler and the flags that are read with it only."""
    owners = zip(TLS, ("authority's certificate", "certificate", "private key"))
    certificates = {
        name: f"The file of the {what}, in PEM, for connections that are encrypted. By default "
        "what Dask is configured with is used."
        for name, what in owners
    }
    shared_flags.define_texts(
        scheduler="Compute on the workers of a Dask scheduler (docs/cluster.md): tcp://HOST:PORT, "
        "tls://HOST:PORT, a scheduler file, or local:COUNT for worker processes on this machine. "
        "By default this process computes everything.",
        **certificates,
    )
    text = "The seconds after which a worker that computes a chunk counts as hung. By default it "
    text += "is ten times what the longest chunk of the attack took, and a minute at least."
    shared_flags.define_number("chunk_timeout", None, text, zero=False)
    shared_flags.define_switches(
        mixed_workers="Accept workers with other versions or processors, whose numbers differ by "
        "rounding."
    )


def threads() -> Optional[int]:
    """The threads of each process: --num_threads, or 1 with --scheduler; None: not said."""
    return FLAGS.num_threads or (1 if FLAGS.scheduler else None)


def check(refused: Mapping[str, bool] = MappingProxyType({})):
    """Raise `EmpirError` as `cluster` does, but for a scheduler that does not answer."""
    if FLAGS.scheduler is None:
        for name in ("chunk_timeout", "mixed_workers", *TLS):
            if FLAGS[name].value:
                raise EmpirError(f"--{name} is read with --scheduler only: drop it")
        return
    _refuse("scheduler", FLAGS.scheduler, refused)
    import empir.cluster  # noqa: F401 - sets how Dask logs

    try:
        import distributed  # noqa: F401
    except ImportError as error:
        raise EmpirError(f"--scheduler needs Dask ({error}): pip install 'empir[cluster]'")


@contextlib.contextmanager
def cluster(refused: Mapping[str, bool] = MappingProxyType({})):
    """A function that gives the `places.Place` of an evaluation, connected while the block runs.

    The function's arguments are the `subjects.Source` of the networks, their images, what
    `shared_flags.loader` gives for these, and the number of images for `runtime.configure`.

    Args:
      refused: why something cannot be computed by workers -> whether it is asked for.

    Raises:
      EmpirError: for flags that contradict each other or --scheduler, if Dask is not installed, or
        if no scheduler answers.
    """
    from empir.evaluation import places

    check(refused)
    if FLAGS.scheduler is None:
        yield lambda *_: places.Here()
        return
    from empir.cluster import connection, driver

    connected = connection.Connection(FLAGS.scheduler, _tls(connection), _local_workers())
    try:
        yield functools.partial(_place, connected)
    finally:
        driver.end(connected)
        connected.close()


def _place(connected, source, data, load, images):
    """Where the chunks of an evaluation are computed: on the workers of a connection."""
    from empir.cluster import driver, work

    subject = work.Subject(
        source=source.absolute(),
        data=data.describe(),
        count=len(data.labels),
        load=load,
        images=images,
    )
    return driver.OnWorkers(
        connected,
        subject,
        data,
        threads=threads(),
        mixed=FLAGS.mixed_workers,
        limit=FLAGS.chunk_timeout,
        imports=_imports(),
    )


def _local_workers():
    """Workers that use all processors."""
    from empir import runtime

    return max(1, runtime.available_cpus() // threads())


def _tls(connection):
    """The certificates of the flags; None if none is given."""
    values = {name: FLAGS[name].value for name in TLS}
    missing = [f"--{name}" for name, value in values.items() if value is None]
    if len(missing) == len(TLS):
        return None
    if missing:
        raise EmpirError(f"{', '.join(missing)} is missing: TLS needs all three files")
    return connection.Tls(*values.values())


def _imports() -> Sequence[Callable]:
    """What imports a user's own dataset and network in another process."""
    found = []
    for name in ("dataset", "network"):
        text = FLAGS[name].value if name in FLAGS else None
        if text and ":" in text:
            source, _, own = text.rpartition(":")
            source = os.path.abspath(source) if source.endswith(".py") else source
            found.append(functools.partial(_import, f"{source}:{own}", f"--{name}"))
    return found


def _import(text, flag):
    shared_flags.load_object(text, flag)


def _refuse(name, value, refused):
    for reason, asked in refused.items():
        if asked:
            raise EmpirError(f"--{name}={value}: {reason}: drop --{name}")


def shard(refused: Mapping[str, bool] = MappingProxyType({})) -> Optional["Shard"]:
    """The part of --shard, or None.

    Args:
      refused: why something cannot be computed in parts -> whether it is asked for.

    Raises:
      EmpirError: for a text that means no part, without --out, or for what cannot be in parts.
    """
    if FLAGS.shard is None:
        return None
    from empir.evaluation.shards import Shard  # loads TensorFlow

    found = Shard.parse(FLAGS.shard)
    if not FLAGS.out:
        raise EmpirError(f"--shard={found} needs --out, a folder of its own for each shard")
    _refuse("shard", found, refused)
    return found
