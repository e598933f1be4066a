"""The format onnx: files that ONNX Runtime computes without TensorFlow or this project.

    ensemble.onnx            all members and the three decision rules
    member1-w2a4.onnx, ...   each member alone
    config.json              what the files are, their digests, and their sizes

Images are float32 [n, height, width, channels] in the dataset's range, of any number n. The outputs
of a member are "logits" and "decision"; those of the ensemble are named in `ENSEMBLE_OUTPUTS`.
"""

import json
import os
from typing import Dict, List, Sequence, Tuple

import numpy as np

from empir import export, runtime
from empir.errors import EmpirError
from empir.export import onnx_graph, onnx_networks
from empir.export.onnx_bytes import MOST_STEPS
from empir.export.source import Source, SourceMember
from empir.export.steps import IMAGES, Multiply, Network, steps_of
from empir.models import DECISION_RULES
from empir.nn import Architecture
from empir.records import runs

#: Outputs of an ensemble's file, each beginning with the number of images.
ENSEMBLE_OUTPUTS = {
    "member_logits": "float32 [n, members, classes]",
    "votes": "the members' classes, int64 [n, members]",
    "mean_logits": "float32 [n, classes]",
    "mean_probs": "mean of the members' softmax, float32 [n, classes]",
    **{f"decision_{rule}": "int64 [n]" for rule in DECISION_RULES},
    "decision": "the class under the ensemble's own rule, int64 [n]",
}

#: The version of ONNX's file format that ONNX Runtime 1.10 reads.
FILE_VERSION = 7
LICENSE = "MIT"
CONFIG, ENSEMBLE = "config.json", "ensemble.onnx"


def write(source: Source, folder: str, precision: str = "integer"):
    """Write the files of an ensemble; see the module, and `empir.export.Format`.

    Args:
      source, folder: see `empir.export.Format`.
      precision: of `onnx_networks.PRECISIONS`.

    Raises:
      EmpirError: for another precision, layers that cannot be exported, or more than 8 bits in the
        precision integer.
    """
    if precision not in onnx_networks.PRECISIONS:
        choices = ", ".join(onnx_networks.PRECISIONS)
        raise EmpirError(f"precision={precision!r}: choose from {choices}")
    export.require_onnx()
    networks = [network_of(source.network, member) for member in source.members]
    files: Dict[str, dict] = {}

    def save(name, members, model):
        path = os.path.join(folder, name)
        content = model.SerializeToString()
        runs.write_atomically(path, content)
        sizes = weight_sizes([networks[number] for number in members])
        files[name] = dict(sha256=runs.file_digest(path), bytes=len(content), weights=sizes)

    for number, (member, network) in enumerate(zip(source.members, networks)):
        name = f"member{number + 1}-{member.precision.replace('/', '-')}.onnx"
        save(name, [number], member_model(source, number, network, precision))
    model, _ = ensemble_model(source, networks, precision)
    save(ENSEMBLE, range(len(networks)), model)
    content = dict(describe(source), precision=precision, outputs=ENSEMBLE_OUTPUTS, files=files)
    runs.write_json(os.path.join(folder, CONFIG), content)


def network_of(architecture: Architecture, member: SourceMember) -> Network:
    """The steps of a member.

    Raises:
      EmpirError: for a layer that cannot be exported.
    """
    from empir.runtime import tf

    bits = tuple(member.layers.values())
    with tf.Graph().as_default():
        model = architecture.build(bits, member.nb_filters, trainable=False)
        return steps_of(model, member.latent, member.quantized)


def describe(source: Source) -> dict:
    """What an ensemble is, as plain data."""
    return {
        "dataset": source.experiment.dataset,
        "architecture": source.network.name,
        "input_shape": list(source.network.input_shape),
        "input_range": list(source.experiment.clip_range),
        "num_classes": source.network.num_classes,
        "combine": source.combine,
        "reference": source.reference,
        "license": LICENSE,
        "made_by": f"empir {runtime.VERSION}",
        "members": [_described(member) for member in source.members],
    }


def _described(member):
    return {
        "checkpoint": member.checkpoint,
        "sha256": member.sha256,
        "nb_filters": member.nb_filters,
        "layers": {name: bits._asdict() for name, bits in member.layers.items()},
    }


def weight_sizes(networks: Sequence[Network]) -> dict:
    """Bytes of the kernels of networks.

    Returns:
      float32: all as float32. bytes: quantized ones a byte a weight. packed: quantized ones at
      their bits, each kernel rounded up to whole bytes.
    """
    sizes = dict.fromkeys(("float32", "bytes", "packed"), 0)
    for network in networks:
        for step in network.steps:
            if isinstance(step, Multiply):
                count, steps = step.kernel.size, step.weight_steps
                small = steps is not None and steps <= MOST_STEPS
                sizes["float32"] += 4 * count
                sizes["bytes"] += count if small else 4 * count
                bits = 32 if steps is None else steps.bit_length()
                sizes["packed"] += (bits * count + 7) // 8
    return sizes


def member_model(source: Source, number: int, network: Network, precision: str):
    """The checked ONNX model of one member."""
    graph = onnx_graph.Graph()
    (logits,), _ = onnx_networks.add_networks(graph, [network], IMAGES, precision)
    graph.add("Identity", logits, name="logits")
    graph.add("ArgMax", logits, name="decision", axis=1, keepdims=0)
    classes = source.network.num_classes
    outputs: List[Tuple[str, type, tuple]] = [
        ("logits", np.float32, (classes,)),
        ("decision", np.int64, ()),
    ]
    member = source.members[number]
    about = dict(describe(source), members=[_described(member)], precision=precision)
    name = f"{source.network.name} {member.precision}"
    return finished(graph, name, network.shapes[IMAGES], outputs, about)


def ensemble_model(
    source: Source, networks: Sequence[Network], precision: str, with_levels: bool = False
):
    """The checked ONNX model of an ensemble.

    Args:
      source: the ensemble.
      networks: its members.
      precision: of `onnx_networks.PRECISIONS`.
      with_levels: whether the levels after each quantizer are outputs too, under the names of their
        tensors.

    Returns:
      The model and, for each member, name of a quantizer's step -> tensor of its levels, see
      `onnx_networks.add_networks`.
    """
    graph = onnx_graph.Graph()
    logits, levels = onnx_networks.add_networks(graph, networks, IMAGES, precision)
    add_decisions(graph, logits, source)
    count, classes = len(networks), source.network.num_classes
    outputs: List[Tuple[str, type, tuple]] = [
        ("member_logits", np.float32, (count, classes)),
        ("votes", np.int64, (count,)),
        ("mean_logits", np.float32, (classes,)),
        ("mean_probs", np.float32, (classes,)),
        *((f"decision_{rule}", np.int64, ()) for rule in DECISION_RULES),
        ("decision", np.int64, ()),
    ]
    tensors: Dict[str, Tuple[str, type, tuple]] = {}
    for network, own in zip(networks, levels):
        for step, tensor in own.items():
            tensors[tensor] = (tensor, np.uint8, network.shapes[step])
    outputs += list(tensors.values()) if with_levels else []
    about = dict(describe(source), precision=precision)
    name = f"{source.network.name} ensemble"
    return finished(graph, name, networks[0].shapes[IMAGES], outputs, about), levels


def add_decisions(graph: onnx_graph.Graph, logits: Sequence[str], source: Source):
    """Append the decision rules, as `empir.models.ensemble` has them, and their outputs.

    Args:
      graph: is appended to.
      logits: of each member.
      source: the ensemble.
    """
    add, count, classes = graph.add, len(logits), source.network.num_classes
    first = np.array([1], np.int64)
    rows = [add("Unsqueeze", each, first) for each in logits]
    stacked = add("Concat", *rows, name="member_logits", axis=1)
    total = logits[0] if count == 1 else add("Sum", *logits)
    add("Div", total, np.float32(count), name="mean_logits")
    tempered = stacked
    if source.temperature != 1:
        tempered = add("Mul", stacked, np.float32(source.temperature))
    probs = add("Softmax", tempered, axis=2)
    add("ReduceMean", probs, name="mean_probs", axes=[1], keepdims=0)
    add("ArgMax", stacked, name="votes", axis=2, keepdims=0)
    for rule in ("mean_logits", "mean_probs"):
        add("ArgMax", rule, name=f"decision_{rule}", axis=1, keepdims=0)
    ballots = add("Equal", add("Unsqueeze", "votes", np.array([2], np.int64)), np.arange(classes))
    ballots = add("Cast", ballots, to=1)
    # Among classes with as many votes, that of the reference counts, else that of the first member.
    order = [source.reference] + [i for i in range(count) if i != source.reference]
    ranks = np.zeros((1, count, 1), np.float32)
    ranks[0, order, 0] = np.arange(count, 0, -1)
    bonus = add("ReduceMax", add("Mul", ballots, ranks), axes=[1], keepdims=0)
    votes = add("ReduceSum", ballots, first, keepdims=0)
    score = add("Add", add("Mul", votes, np.float32(count + 1)), bonus)
    add("ArgMax", score, name="decision_vote", axis=1, keepdims=0)
    add("Identity", f"decision_{source.combine}", name="decision")


def finished(graph: onnx_graph.Graph, name: str, shape, outputs: Sequence[tuple], about: dict):
    """The ONNX model of a graph.

    Args:
      graph: its nodes and constants.
      name: of the model.
      shape: of an image.
      outputs: (name, type, shape without the number of images) of each.
      about: plain data, which become the model's metadata.

    Raises:
      EmpirError: if ONNX's checker refuses it.
    """
    import onnx
    from onnx import helper, numpy_helper

    def tensor(name, dtype, shape):
        kind = onnx.helper.mapping.NP_TYPE_TO_TENSOR_TYPE[np.dtype(dtype)]
        return helper.make_tensor_value_info(name, kind, ["n", *shape])

    made = helper.make_graph(
        graph.nodes,
        name,
        [tensor(IMAGES, np.float32, shape)],
        [tensor(*each) for each in outputs],
        [numpy_helper.from_array(array, name) for name, array in graph.constants.items()],
    )
    sets = [helper.make_opsetid(*each) for each in onnx_graph.OPERATORS.items()]
    model = helper.make_model(
        made, opset_imports=sets, ir_version=FILE_VERSION, producer_name=about["made_by"]
    )
    texts = {
        key: each if isinstance(each, str) else json.dumps(each) for key, each in about.items()
    }
    helper.set_model_props(model, texts)
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise EmpirError(f"ONNX's checker refuses {name}: {str(error).splitlines()[0]}")
    return model
