"""Times large float32 convolutions in one library: what the machine computes in them per second.

    python -m benchmarks.convolution_worker CONVOLUTIONS.onnx --library=onnxruntime

An attack's rate is stated as a share of the best rate that any library reaches on the machine. It
answers as `protocol` says, in the environment of requirements-pytorch.txt:

    {"do": "convolutions"}      {"seconds": 0.05}, of `GFLOP` arithmetic operations, in units of 1e9
    {"do": "quit"}              {}
"""

import argparse

import numpy as np

from benchmarks import protocol

#: Convolutions one after another, so that layouts are changed rarely.
LAYERS = 4
IMAGES, CHANNELS, SIDE, KERNEL = 4, 256, 30, 3
#: Side of each layer's output; nothing is padded.
SIDES = [SIDE - number * (KERNEL - 1) for number in range(1, LAYERS + 1)]
GFLOP = 2e-9 * IMAGES * (CHANNELS * KERNEL) ** 2 * sum(side**2 for side in SIDES)
INPUT, OUTPUT = "layer0", f"layer{LAYERS}"


def kernels() -> list:
    """Kernels [out, in, height, width] of random numbers; outputs are as large as inputs."""
    random = np.random.RandomState(0)
    shape = (CHANNELS, CHANNELS, KERNEL, KERNEL)
    deviation = (CHANNELS * KERNEL**2) ** -0.5
    return [random.normal(0, deviation, shape).astype(np.float32) for _ in range(LAYERS)]


def images() -> np.ndarray:
    """Noise [n, channels, height, width]."""
    shape = (IMAGES, CHANNELS, SIDE, SIDE)
    return np.random.RandomState(1).normal(size=shape).astype(np.float32)


def write(path: str):
    """Write the convolutions as an ONNX file, with the package onnx."""
    from empir.export import require_onnx

    require_onnx()
    from onnx import TensorProto, helper, numpy_helper, save

    constants, nodes = [], []
    for number, kernel in enumerate(kernels()):
        constants.append(numpy_helper.from_array(kernel, f"kernel{number}"))
        inputs = [f"layer{number}", f"kernel{number}"]
        nodes.append(helper.make_node("Conv", inputs, [f"layer{number + 1}"]))
    first, last = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [IMAGES, CHANNELS, side, side])
        for name, side in ((INPUT, SIDE), (OUTPUT, SIDES[-1]))
    )
    graph = helper.make_graph(nodes, "convolutions", [first], [last], constants)
    operators = [helper.make_opsetid("", 13)]
    save(helper.make_model(graph, opset_imports=operators, ir_version=7), path)


def onnxruntime_call(path: str, threads: int):
    """A function that computes the convolutions of a file in ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(path, options)
    given = {INPUT: images()}
    return lambda: session.run([OUTPUT], given)[0]


def pytorch_call(_, threads: int):
    """A function that computes the same convolutions in PyTorch, in the format channels_last."""
    import torch

    torch.set_num_threads(threads)
    arranged = dict(memory_format=torch.channels_last)
    given = torch.from_numpy(images()).contiguous(**arranged)
    weights = [torch.from_numpy(kernel).contiguous(**arranged) for kernel in kernels()]

    def call():
        x = given
        for weight in weights:
            x = torch.nn.functional.conv2d(x, weight)
        return x.numpy()

    return call


LIBRARIES = {"onnxruntime": onnxruntime_call, "pytorch": pytorch_call}


class Worker(protocol.Answering):
    """Answers commands; arguments as of the command line."""

    def __init__(self, path: str, library: str, threads: int):
        self._create = lambda: LIBRARIES[library](path, threads)

    def commands(self):
        """See `protocol.Answering`."""
        return {"convolutions": self._convolutions, **super().commands()}

    def _convolutions(self):
        # A session of ONNX Runtime that is kept would keep threads that wait for work busily.
        return {"seconds": protocol.seconds_of(self._create(), untimed=1, timed=3) / 3}


def main():
    """Serve the library that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", help="file that write wrote")
    parser.add_argument("--library", choices=sorted(LIBRARIES), required=True)
    parser.add_argument("--threads", type=int, required=True)
    chosen = vars(parser.parse_args())
    protocol.answer_commands(lambda: Worker(**chosen))


if __name__ == "__main__":
    main()
