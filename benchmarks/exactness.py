"""Compare an exported ensemble with exact integers and with TensorFlow, image by image.

    python -m benchmarks.exactness --dataset=mnist --data_dir=FOLDER --out=results/export/mnist.json

Of each member, the levels after every quantizer that ONNX Runtime computes are compared with those
of exact arithmetic (`empir.export.integer`) and with TensorFlow's. Then the decisions of the
members and of every decision rule are compared with TensorFlow's, on the test images and on images
that PGD has led away from them. The record names each image that is decided differently, with the
reason.
"""

import numpy as np
import onnxruntime
from absl import flags

import empir
from benchmarks.throughput import made
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
#: Logits that differ by more are another level of a quantizer, not rounding.
SAME_LOGITS = 1e-3


def setup():
    """Define the flags; returns the main function."""
    shared_flags.define_command()
    define_count("nb_samples", 10_000, "The number of test images.")
    define_count("adversarial", 1000, "The number of images that PGD attacks.")
    text = "The number of images of which all levels are compared; of the others it is decisions."
    define_count("levels", 1000, text)
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
    clean = compared.compare(data.images[:], FLAGS.levels)
    record = dict(dataset=FLAGS.dataset, clean=clean)
    attacked = data.first(min(FLAGS.adversarial, len(data.labels)))
    images = adversarial(compared.ensemble, attacked, chosen)
    record["adversarial"] = compared.compare(images, FLAGS.levels)
    record["attack"] = dict(name="pgd", eps=chosen.eps, eps_iter=chosen.eps / 4, nb_iter=STEPS)
    record.update(members=[member.describe() for member in compared.ensemble.members])
    record.update(made())
    record["versions"]["onnxruntime"] = onnxruntime.__version__
    if FLAGS.out:
        runs.write_json(FLAGS.out, record)
    for name in ("clean", "adversarial"):
        part = record[name]
        print(
            f"{name}: of {part['levels']} levels of {part['compared']} images "
            f"{part['levels_not_exact']} are not exact and {part['levels_not_tensorflows']} not "
            f"TensorFlow's; of {part['images']} images {len(part['decided_differently'])} are "
            "decided differently"
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

    def compare(self, images: np.ndarray, levels: int) -> dict:
        """What differs on images, as plain data.

        Args:
          images: float32 [n, height, width, channels].
          levels: of so many images, the first, all levels are compared; of the others those that
            are decided differently, or have other logits.
        """
        found = dict(
            images=len(images),
            compared=0,
            levels=0,
            levels_not_exact=0,
            levels_not_tensorflows=0,
            largest_logit_difference=0.0,
            decided_differently=[],
        )
        for start in range(0, len(images), BATCH):
            part = images[start : start + BATCH]
            own, theirs = self._outputs(part), self._tensorflow(part)
            apart = np.abs(own["logits"] - theirs["logits"]).max(axis=(1, 2))
            chosen = (start + np.arange(len(part)) < levels) | (apart > SAME_LOGITS)
            for name in DECISION_RULES:
                chosen |= own[name] != theirs[name]
            chosen |= (own["members"] != theirs["members"]).any(axis=1)
            differ = np.zeros(len(part), bool)
            if chosen.any():
                differ[chosen] = self._compare_levels(found, part[chosen])
            away = float(apart[~differ].max(initial=0))
            found["largest_logit_difference"] = max(found["largest_logit_difference"], away)
            self._compare_decisions(found, start, differ, own, theirs)
        return found

    def _compare_levels(self, found, images):
        """Count levels that differ; returns on which images TensorFlow has others, bool [n]."""
        from empir.export import integer

        own, theirs = self._outputs(images, levels=True), self._tensorflow(images, levels=True)
        differ = np.zeros(len(images), bool)
        found["compared"] += len(images)
        for number, network in enumerate(self._networks):
            exact = integer.run(network, images) if own["levels"][number] else {}
            for name, levels in own["levels"][number].items():
                others = theirs["levels"][number][name] != levels
                found["levels"] += levels.size
                found["levels_not_exact"] += int((exact[name].numerators != levels).sum())
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
    from empir.export import onnx_files
    from empir.export.steps import IMAGES

    model, levels = onnx_files.ensemble_model(read, networks, "integer", with_levels=True)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    tensors = [dict(one) for one in levels]

    def outputs(images, levels=False):
        names = ["votes", "member_logits", *(f"decision_{rule}" for rule in DECISION_RULES)]
        if levels:
            names += [tensor for one in tensors for tensor in one.values()]
        found = dict(zip(names, session.run(names, {IMAGES: images})))
        own = [{name: found[t] for name, t in one.items()} for one in tensors] if levels else None
        return dict(
            {rule: found[f"decision_{rule}"] for rule in DECISION_RULES},
            members=found["votes"],
            logits=found["member_logits"],
            levels=own,
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
            )
            self._level_fetches = [self._levels(*each) for each in zip(ensemble.members, networks)]

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

    def __call__(self, images, levels=False):
        fetches = dict(self._fetches, levels=self._level_fetches) if levels else self._fetches
        return self._session.run(fetches, {self._images: images})


if __name__ == "__main__":
    commandline.run_main(setup)
