"""Linear ensembles on drawn images, whose decisions tests compute themselves."""

import contextlib
import os

import numpy as np

from empir.data import Dataset
from empir.evaluation.graph import Networks, Setting
from empir.evaluation.threat import Threat
from empir.models.ensemble import Ensemble
from empir.nn.precision import FULL
from empir.runtime import tf
from tests.evaluation.test_views import Linear

COUNT = 40

#: For sessions of graphs so small that making them faster takes longer than they run.
UNOPTIMIZED = tf.ConfigProto()
UNOPTIMIZED.graph_options.rewrite_options.disable_meta_optimizer = True


class Known(Linear):
    """A linear member as records describe it."""

    precisions = (FULL,)

    def describe(self):
        """Fixed."""
        return {"path": "known/x", "weight_bits": None, "activation_bits": None}


class Case:
    """Known members and images, a share of which is misclassified when clean."""

    def __init__(self, random):
        self.w = [random.normal(size=(12, 4)) for _ in range(2)]
        images = random.uniform(0.3, 0.7, size=(COUNT, 3, 4, 1)).astype(np.float32)
        self.decided = (images.reshape(COUNT, -1) @ (self.w[0] + self.w[1])).argmax(axis=1)
        labels = np.where(np.arange(COUNT) % 4, self.decided, (self.decided + 1) % 4)
        self.data = Dataset("known", "test", images, labels, 4, (0.0, 1.0), "known")

    config = UNOPTIMIZED  # of sessions

    @contextlib.contextmanager
    def open(self):
        """See `Setting`."""
        with tf.Graph().as_default(), tf.Session(config=self.config) as session:
            yield Networks(session, Ensemble([Known(w) for w in self.w]), [Known(self.w[0])])

    def setting(self, **changes):
        """A `Setting` of small chunks."""
        threat = Threat(changes.pop("norm", "linf"), changes.pop("eps", 0.05))
        plain = dict(open=self.open, data=self.data, batch_size=16)
        return Setting(threat=threat, **dict(plain, **changes))

    def logits(self, images):
        """Mean logits."""
        return images.reshape(len(images), -1) @ (self.w[0] + self.w[1]) / 2


def arrays(out, name):
    """examples.npz of an attack of a suite."""
    with np.load(os.path.join(out, name, "examples.npz"), allow_pickle=False) as archive:
        return dict(archive)
