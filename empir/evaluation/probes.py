"""Measurements of a model itself, for the checks: its gradients, logits and repeatability."""

from dataclasses import dataclass

import numpy as np

from empir.attacks.base import as_function
from empir.attacks.losses import gradient_or_zero
from empir.evaluation.graph import Networks, Setting
from empir.evaluation.suites import SAMPLE
from empir.runtime import tf

#: Images per call that logits in chunks of the evaluation's size are compared with, if they differ.
OTHER_CHUNK = 7
#: Change of a logit that is rounding, as a share of the largest logit.
ROUNDING = 1e-3


@dataclass(frozen=True)
class Probe:
    """A model at the first clean images, those that it classifies correctly.

    Attributes:
      images: how many these are.
      zero_pixels: share of pixels at which the cross-entropy's gradient is zero.
      zero_images: share of images at all of whose pixels it is.
      flat_images: share of images whose cross-entropy is zero in float32: what is left of its
        gradient has lost the true class.
      repeated: share of images whose logits change by more than rounding if a call is repeated.
      chunked: likewise if images come in chunks of another size.
      probabilities: numbers, from 1, of the members whose logits are probabilities.
    """

    images: int
    zero_pixels: float
    zero_images: float
    flat_images: float
    repeated: float
    chunked: float
    probabilities: tuple


def probe(setting: Setting, networks: Networks) -> Probe:
    """Probe the ensemble on the first `SAMPLE` images."""
    data, ensemble = setting.data, networks.ensemble
    images, labels = data.images[:SAMPLE], data.labels[:SAMPLE]
    image = tf.placeholder(tf.float32, (None,) + data.images.shape[1:])
    label = tf.placeholder(tf.int64, [None])

    def measured(image, label):
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=label, logits=ensemble.target("pgd").get_logits(image)
        )
        return loss, gradient_or_zero(loss, image), ensemble.decision(image)

    def run(fetches, chunk=setting.batch_size):
        parts = []
        for start in range(0, len(labels), chunk):
            rows = slice(start, start + chunk)
            feed = {image: images[rows], label: labels[rows]}
            parts.append(networks.session.run(fetches, feed))
        return [np.concatenate(arrays) for arrays in zip(*parts)]

    loss, gradient, decision = run(as_function(measured, image, label)(image, label))
    outputs = [tf.stack(ensemble.member_logits(image), axis=1)]
    whole = min(setting.batch_size, len(labels))
    other = OTHER_CHUNK if whole > OTHER_CHUNK else whole - 1 or 2
    (logits,), (again,), (in_others,) = run(outputs), run(outputs), run(outputs, other)
    right = decision == labels
    zero = gradient[right].reshape(right.sum(), gradient[0].size) == 0
    return Probe(
        images=int(right.sum()),
        zero_pixels=_share(zero),
        zero_images=_share(zero.all(axis=1)),
        flat_images=_share(loss[right] == 0),
        repeated=_changed(logits, again),
        chunked=_changed(logits, in_others),
        probabilities=_probabilities(logits),
    )


def _share(flags):
    return float(flags.mean()) if flags.size else 0.0


def _changed(logits, others):
    change = np.abs(others - logits).max(axis=(1, 2))
    return _share(change > ROUNDING * max(1.0, float(np.abs(logits).max())))


def _probabilities(logits):
    """Members, from 1, whose outputs [n, members, classes] are in [0, 1] and add up to one."""
    inside = ((logits >= 0) & (logits <= 1)).all(axis=(0, 2))
    whole = (np.abs(logits.sum(axis=2) - 1) < 1e-4).all(axis=0)
    return tuple(int(number) for number in 1 + np.flatnonzero(inside & whole))
