"""The robustness suite on images that are decoded when they are asked for."""

import contextlib
import dataclasses

import numpy as np
import pytest

from empir.data import imagenet
from empir.evaluation import suite
from empir.evaluation.graph import Networks, Setting
from empir.evaluation.specs import LIKELY, AttackSpec
from empir.evaluation.threat import Threat
from empir.evaluation.views import ViewSpec
from empir.models.ensemble import Ensemble
from empir.models.model import Model
from empir.report import robustness as report
from empir.runtime import tf
from tests.data.test_imagenet import everything, original, tree  # noqa: F401
from tests.support.known import arrays

pytestmark = pytest.mark.slow  # it runs whole evaluations

SPECS = (
    AttackSpec("noise", "noise", restarts=2, everyone=True),
    AttackSpec("targeted", "apgd", ViewSpec(), steps=3, restarts=2, targets=LIKELY, everyone=True),
    AttackSpec("square", "square", ViewSpec(), steps=5),
    AttackSpec("hopskipjump", "hopskipjump", steps=1, images=2),
)


def pooled(x):
    """Means of squares of pixels, float32 [n, 192]."""
    return tf.reshape(tf.layers.average_pooling2d(x, 28, 28), [-1, 192])


class Fitted(Model):
    """A linear network on `pooled` pixels."""

    def __init__(self, w):
        super().__init__()
        self._w = tf.constant(w, tf.float32)

    def describe(self):
        """Fixed."""
        return {"path": "fitted", "sha256": None, "weight_bits": None, "activation_bits": None}

    def get_logits(self, x):
        """Logits."""
        return tf.matmul(pooled(x), self._w)


def test_it_finds_the_same_as_on_arrays(original, tmp_path):  # noqa: F811
    lazy = imagenet.load("test", original).first(10)
    images, labels = everything(lazy)
    with tf.Graph().as_default(), tf.Session() as session:
        features = session.run(pooled(tf.constant(images)))
    decided = np.where(np.arange(10) < 2, (labels + 1) % 1000, labels)
    w = np.linalg.lstsq(features, np.eye(1000, dtype=np.float32)[decided], rcond=None)[0]

    @contextlib.contextmanager
    def opened():
        with tf.Graph().as_default(), tf.Session() as session:
            yield Networks(session, Ensemble([Fitted(w)]))

    found = {}
    for name, data in (
        ("lazy", lazy),
        ("arrays", dataclasses.replace(lazy, images=images, labels=labels)),
    ):
        setting = Setting(opened, data, Threat(eps=0.4), batch_size=4)
        out = str(tmp_path / name)
        outcome = suite.run(setting, out, SPECS, progress=False, analyses=False)
        report.write(outcome, data, out)
        found[name] = [arrays(out, spec.name) for spec in SPECS]
    assert outcome.record["clean_accuracy"] == 0.8 > outcome.record["worst_case_accuracy"]
    for on_lazy, on_arrays in zip(*found.values()):
        for name in on_lazy:
            np.testing.assert_array_equal(on_lazy[name], on_arrays[name])
    pages = [(tmp_path / name / "report.html").read_text() for name in found]
    assert pages[0].count("<img") == pages[1].count("<img") > 0


def test_it_is_indexed_like_an_array(original):  # noqa: F811
    lazy = imagenet.load("test", original)
    images, labels = everything(lazy)
    chosen = np.array([7, 2, 9])
    for rows in (3, -1, slice(2, 5), chosen, labels > 0):
        np.testing.assert_array_equal(lazy.images[rows], images[rows])
        np.testing.assert_array_equal(lazy.labels[rows], labels[rows])
    np.testing.assert_array_equal(np.asarray(lazy.first(5).labels), labels[:5])
    np.testing.assert_array_equal(np.asarray(lazy.labels), labels)
    np.testing.assert_array_equal(lazy.labels == labels, np.ones(12, bool))
