"""How networks' input gradients agree, and how attacks on one of them transfer to the others."""

import numpy as np

from benchmarks.throughput import made
from empir import attacks, runtime
from empir.models.member import load_members
from empir.nn import architecture
from empir.runtime import tf

#: Part of the radius that a step of PGD goes, and the number of steps.
STEP, STEPS = 0.1, 40
#: Percentiles of the ratio of gradients' lengths.
PERCENTILES = (5, 50, 95)
_TINY = 1e-30


def measure(chosen, specs, data, eps: float, batch_size: int):
    """Measure networks on images.

    Args:
      chosen: the dataset's `Experiment`.
      specs: `MemberSpec`s of k networks.
      data: a `Dataset` of n images.
      eps: radius of PGD in L-infinity.
      batch_size: images of a graph call.

    Returns:
      The record, a dict: clean, [k], and transfer, [k, k], accuracies of the network in the column
      on clean images and on those that PGD made for the network in the row; cosine and
      sign_cosine, [k, k], means over the images on which both gradients differ from zero; for each
      of the losses "cross_entropy" and "double_softmax" zero_images and zero_pixels, [k], shares;
      and length_ratio, [k] by percentile over images, the length of the double softmax' gradient
      over that of the cross-entropy's. And which images are classified correctly: bool arrays clean
      [k, n] and transfer [k, k, n].
    """
    network = architecture(chosen.architecture)
    with tf.Graph().as_default(), runtime.session(operations=1) as session:
        networks = load_members(network, specs, session)
        graph = _Graph(networks, data, eps, chosen.seed, session)
        found = [
            graph.run(slice(at, at + batch_size)) for at in range(0, len(data.labels), batch_size)
        ]
        members = [one.describe() for one in networks]
    pooled = {name: np.concatenate([chunk[name] for chunk in found], -1) for name in found[0]}
    record = dict(
        dataset=chosen.dataset,
        members=members,
        attack=dict(name="pgd", eps=eps, eps_iter=STEP * eps, nb_iter=STEPS, norm="linf"),
        seed=chosen.seed,
        num_examples=len(data.labels),
        data=data.describe(),
        **_summary(pooled),
        **made(),
    )
    return record, {name: pooled[name] for name in ("clean", "transfer")}


class _Graph:
    """The operations of `measure` on a chunk of images."""

    def __init__(self, networks, data, eps, seed, session):
        self._session, self._data = session, data
        self._images = tf.placeholder(tf.float32, (None, *data.images.shape[1:]))
        self._labels = tf.placeholder(tf.float32, [None, data.num_classes])
        self._index = tf.placeholder(tf.int64, [None])
        low, high = data.clip_range
        adversarial = [
            attacks.create("pgd", one, session).generate(
                self._images,
                y=self._labels,
                index=self._index,
                eps=eps,
                eps_iter=STEP * eps,
                nb_iter=STEPS,
                clip_min=low,
                clip_max=high,
                seed=seed,
            )
            for one in networks
        ]
        self._fetches = {
            "clean": _right(networks, self._images, self._labels),
            "transfer": tf.stack([_right(networks, each, self._labels) for each in adversarial]),
            **_gradients(networks, self._images, self._labels),
        }

    def run(self, rows):
        """Arrays by name; their last axis is that of the images."""
        labels = np.eye(self._data.num_classes, dtype=np.float32)[self._data.labels[rows]]
        feed = {self._images: self._data.images[rows], self._labels: labels}
        feed[self._index] = self._data.numbers[rows]
        return self._session.run(self._fetches, feed)


def _right(networks, images, labels):
    """Which images each network classifies correctly, bool [k, n]."""
    true = tf.argmax(labels, 1)
    return tf.stack([tf.equal(tf.argmax(one.get_logits(images), 1), true) for one in networks])


def _gradients(networks, images, labels):
    """What is to be known of the input gradients, by name, each [..., n]."""
    losses = {"cross_entropy": [], "double_softmax": []}
    for one in networks:
        logits = one.get_logits(images)
        for name, scores in zip(losses, (logits, tf.nn.softmax(logits))):
            loss = tf.nn.softmax_cross_entropy_with_logits_v2(labels=labels, logits=scores)
            (gradient,) = tf.gradients(loss, images)
            losses[name].append(tf.reshape(gradient, [tf.shape(images)[0], -1]))
    found = {}
    for name, gradients in losses.items():
        stacked = losses[name] = tf.stack(gradients)
        found[f"{name}_zeros"] = tf.reduce_mean(tf.cast(tf.equal(stacked, 0), tf.float32), -1)
        found[f"{name}_length"] = tf.norm(stacked, axis=-1)
    found["cosine"] = _cosines(losses["cross_entropy"])
    found["sign_cosine"] = _cosines(tf.sign(losses["cross_entropy"]))
    return found


def _cosines(vectors):
    """Cosines between the vectors of all pairs, [k, k, n]; NaN where one of them is zero."""
    largest = tf.reduce_max(tf.abs(vectors), -1, keepdims=True)
    scaled = vectors / largest  # 0 / 0 is NaN
    unit = scaled / tf.norm(scaled, axis=-1, keepdims=True)
    return tf.einsum("ind,jnd->ijn", unit, unit)


def _summary(pooled):
    """The record's figures of arrays whose last axis is that of the images."""
    figures = {name: pooled[name].mean(-1) for name in ("clean", "transfer")}
    for name in ("cosine", "sign_cosine"):
        figures[name] = np.nanmean(pooled[name], -1)
    record = {name: _rounded(figure) for name, figure in figures.items()}
    for loss in ("cross_entropy", "double_softmax"):
        zeros = pooled[f"{loss}_zeros"]
        shares = {"zero_images": (zeros == 1).mean(-1), "zero_pixels": zeros.mean(-1)}
        record[loss] = {name: _rounded(share) for name, share in shares.items()}
    longer = np.maximum(pooled["cross_entropy_length"], _TINY)
    ratios = np.percentile(pooled["double_softmax_length"] / longer, PERCENTILES, axis=-1)
    record["length_ratio"] = dict(zip(map(str, PERCENTILES), map(_rounded, ratios)))
    return record


def _rounded(figures):
    return np.asarray(figures, float).round(6).tolist()
