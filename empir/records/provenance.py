"""Where a record comes from: the software, the processor, the command, the commit."""

import contextlib
import os
import shlex
import subprocess
import sys
from typing import Dict, Optional

from empir import runtime


def of_run() -> dict:
    """What a record says of its making.

    Returns:
      "versions" of the software and the device, "git_commit" of the checkout (None outside of one;
      "-dirty" is appended when tracked files differ from it), and the "command".
    """
    return {"versions": versions(), "git_commit": git_commit(), "command": command()}


def versions() -> Dict[str, str]:
    """Versions of the software, and the device."""
    import numpy
    import pkg_resources  # type: ignore[import]  # setuptools has no types

    from empir.runtime import keras, tf

    gpus = [device.name for device in tf.config.experimental.list_physical_devices("GPU")]
    return {
        "empir": runtime.VERSION,  # an installed package has no commit
        "python": "%d.%d.%d" % sys.version_info[:3],
        "tensorflow": tf.__version__,
        "tensorflow_build": _tensorflow_build(pkg_resources.working_set.by_key),
        "keras": keras.__version__,
        "numpy": numpy.__version__,
        "cleverhans": pkg_resources.get_distribution("cleverhans").version,
        "device": ", ".join(gpus) or "CPU, %d threads" % runtime.threads(),
    }


def peak_memory_mb() -> float:
    """Largest resident memory of this process so far, in units of 2^20 bytes (Linux, macOS)."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)


def _tensorflow_build(installed):
    """Name of the installed distribution that provides TensorFlow, e.g. "intel-tensorflow"."""
    names = ("nvidia-tensorflow", "intel-tensorflow", "tensorflow-gpu", "tensorflow")
    return next((name for name in names if name in installed), "unknown")


def command() -> str:
    """The command line of this process, as one would type it from the checkout."""
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        name = spec.name[: -len(".__main__")] if spec.name.endswith(".__main__") else spec.name
        head = ["empir"] if name == "empir" else ["python", "-m", name]
    else:
        path = os.path.relpath(sys.argv[0]) if os.path.exists(sys.argv[0]) else sys.argv[0]
        head = ["empir"] if os.path.basename(path) == "empir" else ["python", path]
    return " ".join(shlex.quote(word) for word in head + sys.argv[1:])


def git_commit() -> Optional[str]:
    """Commit of the checkout that holds this package, or None outside one.

    An environment that an installed package is in may lie inside somebody else's repository, whose
    commits say nothing of this package.
    """
    if not os.path.exists(os.path.join(runtime.ROOT, ".git")):
        return None
    # Matching no tag, it says the commit.
    describe = ["git", "-C", runtime.ROOT, "describe", "--always", "--match=", "--abbrev=40"]
    try:
        return subprocess.check_output(
            describe + ["--dirty"], stderr=subprocess.DEVNULL, universal_newlines=True
        ).strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def processor() -> str:
    """What Linux calls the processor, and how many of it this process may use."""
    name, fields = "unknown", _processor_fields()
    with contextlib.suppress(KeyError):
        name = f"{fields['model name']}, family {fields['cpu family']} model {fields['model']}"
    return "%s, %d threads" % (name, runtime.available_cpus())


def _processor_fields():
    """What Linux tells of a processor, by name; empty elsewhere."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as file:
        fields = dict(line.split(":", 1) for line in file if ":" in line)
        return {key.strip(): value.strip() for key, value in fields.items()}
    return {}


def environment() -> dict:
    """What decides the bytes of a result beside its settings: versions, and how kernels are chosen.

    Kernels are chosen by the processor's maker and instruction sets, or the graphics card.
    """
    told, wanted = _processor_fields(), ("sse4_2", "avx", "avx2", "fma", "f16c")
    flags = [f for f in told.get("flags", "").split() if f in wanted or f.startswith("avx512")]
    told_versions = versions()
    plain = ", TF_DISABLE_MKL=1" * (os.environ.get("TF_DISABLE_MKL") == "1")  # without oneDNN
    return {
        "empir": told_versions["empir"],
        "tensorflow": f"{told_versions['tensorflow_build']} {told_versions['tensorflow']}{plain}",
        "numpy": told_versions["numpy"],
        "processor": " ".join([told.get("vendor_id", "unknown"), *sorted(flags)]),
        "gpus": len(runtime.gpus()),
    }
