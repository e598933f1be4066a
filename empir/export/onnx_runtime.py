"""An ensemble's outputs by ONNX Runtime instead of TensorFlow, where no gradient is needed."""

from typing import Dict

import numpy as np

from empir import runtime
from empir.export import onnx_files, onnx_networks, source
from empir.export.steps import IMAGES
from empir.models import DECISION_RULES


class Outputs:
    """Computes what `evaluation.graph` makes of an ensemble's outputs.

    Args:
      read: the ensemble. Products of up to 8 bits are computed in integers; with a layer of more
        bits, everything is computed in float32.

    Attributes:
      num_classes: number of classes.
    """

    def __init__(self, read: source.Source):
        import onnxruntime

        networks = [onnx_files.network_of(read.network, member) for member in read.members]
        small = all(map(onnx_networks.is_small, networks))
        precision = "integer" if small else "float"
        model, _ = onnx_files.ensemble_model(read, networks, precision)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = runtime.threads()
        options.log_severity_level = 3  # errors only
        self._session = onnxruntime.InferenceSession(model.SerializeToString(), options)
        self.num_classes = read.network.num_classes
        self._mean = "mean_probs" if read.combine == "mean_probs" else "mean_logits"

    def __call__(self, images: np.ndarray) -> Dict[str, np.ndarray]:
        """Outputs of images, float32 [n, height, width, channels].

        Returns:
          The class under each of `DECISION_RULES`, int64 [n]; members, int64 [n, members]; logits,
          float32 [n, members, classes].
        """
        names = ["member_logits", "votes", *(f"decision_{rule}" for rule in DECISION_RULES)]
        logits, votes, *decisions = self._run(names, images)
        return dict(zip(DECISION_RULES, decisions), members=votes, logits=logits)

    def logits(self, images: np.ndarray) -> np.ndarray:
        """The members' logits of images, float32 [n, members, classes]."""
        return self._run(["member_logits"], images)[0]

    def predictions(self, images: np.ndarray) -> Dict[str, np.ndarray]:
        """The arrays of `Predictions` by their names."""
        names = ["member_logits", "votes", self._mean, "decision"]
        logits, votes, mean, decision = self._run(names, images)
        if self._mean == "mean_logits":
            exponents = np.exp(mean - mean.max(1, keepdims=True))
            mean = exponents / exponents.sum(1, keepdims=True)
        return dict(decision=decision, members=votes, probabilities=mean, logits=logits)

    def _run(self, names, images):
        return self._session.run(names, {IMAGES: np.asarray(images, np.float32)})
