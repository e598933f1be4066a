"""Times networks of an exported ensemble in one library, for `benchmarks.inference`.

    python -m benchmarks.inference_worker FOLDER --library=onnxruntime --threads=1

It answers as `protocol` says, and knows these commands:

    {"do": "environment"}                     {"versions": {...}}
    {"do": "load", "network": "ensemble", "precision": "integer"}
                                              {"resident_mb": 4.1}, what loading has added
    {"do": "run", "network": "ensemble", "precision": "integer", "batch": 100, "seconds": 0.2}
                                              {"milliseconds": 31.2}, the median of a call
    {"do": "quit"}                            {}

A network is "baseline" (the full-precision member alone), "ensemble", "member1" or "member2". This
module needs NumPy and its library alone, and runs on any Python from 3.7.
"""

import argparse
import importlib.util
import json
import os
import platform
import time

import numpy as np

from benchmarks import protocol

#: Networks of an ensemble of three -> the number of the member, if it is one.
NETWORKS = {"ensemble": None, "member1": 0, "member2": 1, "baseline": 2}
INPUT = "images"


def onnx_name(network: str) -> str:
    """Name of a network's ONNX file."""
    return f"{network}.onnx"


class OnnxRuntime:
    """Networks in ONNX Runtime."""

    def __init__(self, folder, threads):
        self._folder, self._threads = folder, threads

    def load(self, network, precision):
        """A function from images to the network's logits."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self._threads, 1
        options.log_severity_level = 3
        path = os.path.join(self._folder, precision, onnx_name(network))
        session = onnxruntime.InferenceSession(path, options)
        outputs = ["mean_logits" if network == "ensemble" else "logits"]
        return lambda images: session.run(outputs, {INPUT: images})[0]

    def versions(self):
        """Versions of the library."""
        import onnxruntime

        return {"onnxruntime": onnxruntime.__version__}


class PyTorch:
    """Networks in PyTorch, as `empir export --format=pytorch` writes them."""

    def __init__(self, folder, threads):
        import torch

        torch.set_num_threads(threads)
        path = os.path.join(folder, "pytorch", "model.py")
        spec = importlib.util.spec_from_file_location("model", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        self._ensemble = module.load()

    def load(self, network, precision):
        """A function from images to the network's logits."""
        import torch

        number = NETWORKS[network]
        net = self._ensemble if number is None else self._ensemble.networks[number]

        def run(images):
            with torch.no_grad():
                return net(torch.from_numpy(images.transpose(0, 3, 1, 2))).numpy()

        return run

    def versions(self):
        """Versions of the library."""
        import torch

        return {"torch": torch.__version__}


class TensorFlow:
    """Networks of this project in TensorFlow, with the weights that `benchmarks.inference` has."""

    def __init__(self, folder, threads):
        from empir import runtime
        from empir.experiments import experiment

        runtime.configure(threads)
        from benchmarks.throughput import members
        from empir.runtime import tf

        with open(os.path.join(folder, "dataset.json")) as file:
            chosen = experiment(json.load(file))
        self._session = runtime.session(tf.Graph(), operations=1)
        with self._session.graph.as_default(), self._session.as_default():
            self._members = members(chosen, self._session)

    def load(self, network, precision):
        """A function from images to the network's logits."""
        from empir.models.ensemble import Ensemble
        from empir.runtime import tf

        number = NETWORKS[network]
        with self._session.graph.as_default():
            model = Ensemble(self._members) if number is None else self._members[number]
            images = tf.placeholder(tf.float32, (None,) + self._members[0].input_shape)
            logits = model.get_logits(images)
        return lambda batch: self._session.run(logits, {images: batch})

    def versions(self):
        """Versions of the library."""
        from empir.records import provenance

        return provenance.versions()


LIBRARIES = {"onnxruntime": OnnxRuntime, "pytorch": PyTorch, "tensorflow": TensorFlow}


class Worker(protocol.Answering):
    """Answers commands about the networks in a folder."""

    def __init__(self, folder: str, library: str, threads: int):
        self._images = np.load(os.path.join(folder, "images.npy"))
        self._library = LIBRARIES[library](folder, threads)
        self._loaded = {}

    def commands(self):
        """See `protocol.Answering`."""
        return {
            "environment": self._environment,
            "load": self._load,
            "run": self._run,
            **super().commands(),
        }

    def _environment(self):
        return {"versions": dict(self._library.versions(), python=platform.python_version())}

    def _load(self, network, precision):
        before = _resident_mb()
        call = self._library.load(network, precision)
        call(self._images[:1])
        self._loaded[network, precision] = call
        return {"resident_mb": round(_resident_mb() - before, 1)}

    def _run(self, network, precision, batch, seconds):
        call = self._loaded[network, precision]
        images = np.resize(self._images, (batch,) + self._images.shape[1:])
        measured, began = [], time.perf_counter()
        while not measured or time.perf_counter() - began < seconds:
            start = time.perf_counter()
            call(images)
            measured.append(time.perf_counter() - start)
        # The first call of several fills caches.
        return {"milliseconds": 1e3 * float(np.median(measured[1:] or measured))}


def _resident_mb():
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


def main():
    """Serve the library that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--library", choices=sorted(LIBRARIES), required=True)
    parser.add_argument("--threads", type=int, required=True)
    chosen = parser.parse_args()
    protocol.answer_commands(lambda: Worker(chosen.folder, chosen.library, chosen.threads))


if __name__ == "__main__":
    main()
