"""Compare an exported ensemble with exact integers and with TensorFlow, image by image.

    python -m benchmarks.exactness --dataset=mnist --data_dir=FOLDER --out=results/export/mnist.json

Of each member, the levels after every quantizer that ONNX Runtime computes are compared with those
of exact arithmetic (`empir.export.integer`) and with TensorFlow's. Then the decisions of the
members and of every decision rule are compared with TensorFlow's, on the test images and on images
that PGD has led away from them. The record names each image that is decided differently, with the
reason.
"""

import numpy as np
from absl import flags

import empir
from benchmarks.throughput import provenance
from empir import runtime
from empir.commands import commandline, shared_flags
from empir.commands.shared_flags import define_count
from empir.experiments import experiment
from empir.models import DECISION_RULES
from empir.records import runs

FLAGS = flags.FLAGS
BATCH = 250
#: Steps of PGD.
STEPS = 10


def setup():
    """Define the flags; returns the main function."""
    shared_flags.define_command()
    define_count("nb_samples", 10_000, "The number of test images.")
    define_count("adversarial", 1000, "The number of images that PGD attacks.")
    flags.DEFINE_string("out", None, "The file of the record, JSON. By default there is none.")
    return run


def run(_):
    """Compare, print what differs, and write the record."""
    if FLAGS.out is not None:
        runs.check_file(FLAGS.out)
    runtime.configure(FLAGS.num_threads)
    chosen = shared_flags.chosen_experiment(FLAGS.dataset)
    data = shared_flags.load_data(chosen, "test", FLAGS.sample)
    data = data.first(min(FLAGS.nb_samples, len(data.labels)))
    compared = Comparison(FLAGS.dataset)
    record = dict(dataset=FLAGS.dataset, clean=compared.compare(data.images[:]))
    attacked = data.first(min(FLAGS.adversarial, len(data.labels)))
    record["adversarial"] = compared.compare(adversarial(compared.ensemble, attacked, chosen))
    record["attack"] = dict(name="pgd", eps=chosen.eps, eps_iter=chosen.eps / 4, nb_iter=STEPS)
    record.update(members=[member.describe() for member in compared.ensemble.members])
    record.update(provenance())
    if FLAGS.out:
        runs.write_json(FLAGS.out, record)
    for name in ("clean", "adversarial"):
        part = record[name]
        print(
            f"{name}: {part['images']} images, {part['levels']} levels, of which "
            f"{part['levels_not_exact']} are not exact and {part['levels_not_tensorflows']} not "
            f"TensorFlow's; {len(part['decided_differently'])} images are decided differently"
        )


def adversarial(ensemble, data, chosen) -> np.ndarray:
    """Images of a dataset after PGD with the experiment's radius."""
    from empir.evaluation.specs import AttackSpec

    step = {"eps_iter": chosen.eps / 4}
    attack = AttackSpec("pgd", "pgd", steps=STEPS, everyone=True, parameters=step)
    threat = empir.Threat("linf", chosen.eps)
    found = empir.evaluate(ensemble, data, threat=threat, suite=[attack], progress=False)
    return found.attacks["pgd"]["adversarial"]


class Comparison:
    """An ensemble of the repository in TensorFlow, in ONNX Runtime and in exact integers.

    Args:
      dataset: whose ensemble.

    Attributes:
      ensemble: in TensorFlow.
    """

    def __init__(self, dataset: str):
        from empir.export import onnx_files, source

        self.ensemble = empir.load_ensemble(dataset)
        read = source.read(self.ensemble, experiment(dataset))
        self._networks = [onnx_files.network_of(read.network, member) for member in read.members]
        self._outputs = _onnx(read, self._networks)
        self._tensorflow = _TensorFlow(self.ensemble, self._networks)

    def compare(self, images: np.ndarray) -> dict:
        """What differs on images, float32 [n, height, width, channels]; plain data."""
        found = dict(
            images=len(images),
            levels=0,
            levels_not_exact=0,
            levels_not_tensorflows=0,
            largest_logit_difference=0.0,
            decided_differently=[],
        )
        for start in range(0, len(images), BATCH):
            part = images[start : start + BATCH]
            own, theirs = self._outputs(part), self._tensorflow(part)
            differ = np.zeros(len(part), bool)
            for number, network in enumerate(self._networks):
                differ |= self._compare_levels(found, network, number, part, own, theirs)
            away = float(np.abs(own["logits"] - theirs["logits"])[~differ].max(initial=0))
            found["largest_logit_difference"] = max(found["largest_logit_difference"], away)
            self._compare_decisions(found, start, differ, own, theirs)
        return found

    def _compare_levels(self, found, network, number, images, own, theirs):
        """Count levels that differ; returns on which images TensorFlow has others, bool [n]."""
        from empir.export import integer
        from empir.export.steps import Quantize

        exact = integer.run(network, images)
        differ = np.zeros(len(images), bool)
        for step in network.steps:
            if isinstance(step, Quantize):
                levels = own["levels"][number][step.name]
                others = theirs["levels"][number][step.name] != levels
                found["levels"] += levels.size
                found["levels_not_exact"] += int((exact[step.name].numerators != levels).sum())
                found["levels_not_tensorflows"] += int(others.sum())
                differ |= others.reshape(len(others), -1).any(axis=1)
        return differ

    @staticmethod
    def _compare_decisions(found, start, differ, own, theirs):
        names = DECISION_RULES + ("members",)
        others = {name: own[name] != theirs[name] for name in names}
        others["members"] = others["members"].any(axis=1)
        for row in np.flatnonzero(np.any(list(others.values()), axis=0)):
            reason = "TensorFlow's float32 rounds a sum to another level"
            if not differ[row]:
                reason = "two classes' logits differ by less than float32's rounding"
            found["decided_differently"].append(
                {
                    "image": int(start + row),
                    "decided_by": [name for name in names if others[name][row]],
                    "reason": reason,
                }
            )


def _onnx(read, networks):
    """A function from images to ONNX Runtime's outputs and levels."""
    import onnxruntime

    from empir.export import onnx_files
    from empir.export.steps import IMAGES

    model, levels = onnx_files.ensemble_model(read, networks, "integer", with_levels=True)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    names = [output.name for output in session.get_outputs()]

    def outputs(images):
        found = dict(zip(names, session.run(None, {IMAGES: images})))
        return dict(
            {rule: found[f"decision_{rule}"] for rule in DECISION_RULES},
            members=found["votes"],
            logits=found["member_logits"],
            levels=[{name: found[tensor] for name, tensor in one.items()} for one in levels],
        )

    return outputs


class _TensorFlow:
    """TensorFlow's outputs of an ensemble, and the levels of its quantizers."""

    def __init__(self, ensemble, networks):
        from empir.runtime import tf

        self._session = ensemble.session
        with self._session.graph.as_default():
            self._images = tf.placeholder(tf.float32, (None,) + ensemble.members[0].input_shape)
            logits = ensemble.member_logits(self._images)
            stacked = tf.stack(logits, axis=1)
            self._fetches = dict(
                ensemble.decisions(logits),
                members=tf.argmax(stacked, axis=2),
                logits=stacked,
                levels=[
                    self._levels(member, network)
                    for member, network in zip(ensemble.members, networks)
                ],
            )

    def _levels(self, member, network):
        from empir.export.steps import IMAGES, Quantize
        from empir.runtime import tf

        outputs = dict(member.fprop(self._images), **{IMAGES: self._images})
        quantizers = {layer.name: layer.input_quantizer for layer in member.model.layers
                      if getattr(layer, "input_quantizer", None) is not None}  # fmt: skip
        return {
            step.name: tf.cast(
                tf.round(
                    quantizers[network.readers(step.name)[0].name](outputs[step.inputs[0]])
                    * step.steps
                ),
                tf.int32,
            )
            for step in network.steps
            if isinstance(step, Quantize)
        }

    def __call__(self, images):
        return self._session.run(self._fetches, {self._images: images})


if __name__ == "__main__":
    commandline.run_main(setup)
