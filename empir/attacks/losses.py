"""Losses of attacks: functions of logits and labels that an attack maximises over the image."""

from empir.runtime import tf

#: Names of losses: cross-entropy, margin, and difference of logits ratio (Croce and Hein 2020,
#: arXiv 2003.01690).
LOSSES = ("ce", "margin", "dlr")

_TINY = 1e-12  # added to divisors


def cross_entropy(logits, labels):
    """Cross-entropy of the softmax of the logits, float32 [n].

    Args:
      logits: float32 [n, classes].
      labels: one-hot float32 [n, classes].
    """
    return cross_entropy_and_gradient(logits, labels)[0]


def cross_entropy_and_gradient(logits, labels):
    """The cross-entropy, float32 [n], and its gradient at the logits, float32 [n, classes].

    This is the operation inside of `tf.nn.softmax_cross_entropy_with_logits_v2`, without the
    thirty others which that puts around it for tensors of other ranks.
    """
    found = tf.raw_ops.SoftmaxCrossEntropyWithLogits(features=logits, labels=labels)
    return found.loss, found.backprop


def margin(logits, labels):
    """Lead of the best other class over the true one, max_{j != y} z_j - z_y; float32 [n].

    Args:
      logits: float32 [n, classes].
      labels: one-hot float32 [n, classes].
    """
    true = tf.reduce_sum(labels * logits, axis=1)
    return tf.reduce_max(logits - 1e9 * labels, axis=1) - true


def ratio_margin(logits, labels):
    """The margin over the distance of the largest from the third largest logit (DLR), float32 [n].

    It does not change if all logits are scaled or shifted. It needs at least three classes.

    Args:
      logits: float32 [n, classes].
      labels: one-hot float32 [n, classes].
    """
    largest = tf.nn.top_k(logits, 3)[0]
    return margin(logits, labels) / (largest[:, 0] - largest[:, 2] + _TINY)


def loss(name: str, logits, labels, toward=None):
    """A loss that grows as the model comes closer to a misclassification, float32 [n].

    Args:
      name: one of `LOSSES`.
      logits: float32 [n, classes].
      labels: true classes, one-hot float32 [n, classes].
      toward: the wrong class that is to win, one-hot float32 [n, classes]; None means any. With
        it, "margin" is the lead of that class over the true one, "dlr" the same lead over the
        distance of the largest from the mean of the third and fourth largest logit, and "ce" the
        negative cross-entropy of that class.
    """
    if toward is None:
        return {"ce": cross_entropy, "margin": margin, "dlr": ratio_margin}[name](logits, labels)
    if name == "ce":
        return -cross_entropy(logits, toward)
    lead = tf.reduce_sum((toward - labels) * logits, axis=1)
    if name == "margin":
        return lead
    largest = tf.nn.top_k(logits, 4)[0]
    return lead / (largest[:, 0] - (largest[:, 2] + largest[:, 3]) / 2 + _TINY)


def gradient_or_zero(value, image):
    """Gradient of `value`, float32 [n], at the image, of its shape; 0 if nothing connects them."""
    (gradient,) = tf.gradients(value, image)
    return tf.zeros_like(image) if gradient is None else gradient
