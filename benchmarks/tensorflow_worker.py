"""This project's attacks and training, and CleverHans 2.1.0's attacks, in TensorFlow.

    python -m benchmarks.tensorflow_worker WORKLOAD --library=empir

Both libraries attack the same members; CleverHans calls their Keras layers one by one. It has no
training, so its place is taken by a compiled Keras model, with which its users train.
"""

import contextlib

import numpy as np

from benchmarks import protocol
from empir import runtime
from empir.nn import architecture, family
from empir.nn.precision import Precision, per_layer
from empir.records import provenance

LEARNING_RATE = 1e-3


def empir_attack(name, target, session):
    """This project's attack of a name on a model."""
    from empir import attacks

    return attacks.create(name, target, session, runtime.share_count())


def cleverhans_attack(name, target, session):
    """CleverHans' own attack of a name on a model."""
    from cleverhans import attacks

    classes = {
        "fgsm": attacks.FastGradientMethod,
        "bim": attacks.BasicIterativeMethod,
        "pgd": attacks.MadryEtAl,
        "cw": attacks.CarliniWagnerL2,
    }
    return classes[name](target, sess=session)


@contextlib.contextmanager
def empir_training(network, precisions, filters, images, labels):
    """Yield a training step as `empir.training` takes it, in the default session."""
    from empir.runtime import tf
    from empir.training.graph import Graph, Settings

    options = {"nb_filters": filters}
    settings = Settings(network, precisions, options, 1, len(labels), LEARNING_RATE, seed=0)
    graph = Graph(settings)
    session = tf.get_default_session()
    session.run(tf.global_variables_initializer())
    phase = graph.phases[0]
    fetches = [phase.step, phase.loss, phase.accuracy, graph.global_step]
    feed = {
        graph.images: images,
        graph.labels: labels,
        graph.rate: LEARNING_RATE,
        graph.training: True,
    }
    yield lambda: session.run(fetches, feed)


@contextlib.contextmanager
def keras_training(network, precisions, filters, images, labels):
    """Yield a training step of a compiled Keras model."""
    from empir.runtime import keras

    model = network.build(precisions, nb_filters=filters)
    optimizer = keras.optimizers.Adam(LEARNING_RATE)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    yield lambda: model.train_on_batch(images, labels[:, None])


ATTACKS = {"empir": empir_attack, "cleverhans": cleverhans_attack}
TRAININGS = {"empir": empir_training, "cleverhans": keras_training}


@contextlib.contextmanager
def _session(operations=2):
    """A session on its own graph. Neither is made the default, so that several can be open."""
    from empir.runtime import keras, tf

    keras.backend.clear_session()  # Keras keeps every graph that it has built a layer in
    with contextlib.closing(runtime.session(tf.Graph(), operations)) as session:
        yield session


@contextlib.contextmanager
def _default(session):
    with session.graph.as_default(), session.as_default():
        yield


class TensorFlowSystem(protocol.System):
    """A TensorFlow library's attacks on the workload's ensemble.

    Args:
      workload: the members and their weights.
      library: key of `ATTACKS`.
    """

    def __init__(self, workload: protocol.Workload, library: str):
        self._workload = workload
        self._library = library
        self._network = architecture(workload.architecture)
        quantized = len(self._network.quantized_layers)
        self._precisions = [per_layer(Precision.of(**m), quantized) for m in workload.members]
        self._filters = [arrays["conv1/kernel"].shape[-1] for arrays in workload.weights]
        self._evaluate = None  # logits in the session of the attack that is prepared

    def _ensemble(self, session):
        """The members in the session's graph, which is the default."""
        from empir.models.ensemble import Ensemble
        from empir.models.member import member_from_arrays

        members = []
        for precisions, filters, own in zip(
            self._precisions, self._filters, self._workload.weights
        ):
            names = self._network.names(family(precisions))
            arrays = {names[name]: array for name, array in own.items()}
            members.append(
                member_from_arrays(
                    self._network,
                    precisions,
                    arrays,
                    session,
                    engine=self._library == "empir",
                    nb_filters=filters,
                )
            )
        return Ensemble(members)

    @contextlib.contextmanager
    def _loaded(self, attack=None):
        """Yield (session, ensemble, placeholder of images), which `logits` uses meanwhile."""
        from empir.runtime import tf

        # One operation at a time is fastest, but CleverHans' CW runs the session within one.
        within = self._library == "cleverhans" and attack == "cw"
        with _session(2 if within else 1) as session:
            with _default(session):
                ensemble = self._ensemble(session)
                images = tf.placeholder(tf.float32, (None,) + self._network.input_shape)
                logits = ensemble.target().get_logits(images)
            self._evaluate = lambda batch: session.run(logits, {images: batch})
            try:
                yield session, ensemble, images
            finally:
                self._evaluate = None

    def logits(self, images):
        """See `protocol.System`."""
        if self._evaluate is not None:
            return self._evaluate(images)
        with self._loaded():
            return self._evaluate(images)

    @contextlib.contextmanager
    def attack(self, name, parameters, images, labels):
        """See `protocol.System`."""
        from empir.runtime import tf

        classes = self._network.num_classes
        if name == "cw":
            parameters = dict(parameters, batch_size=len(images))
        with self._loaded(name) as (session, ensemble, fed_images):
            with _default(session):
                tf.set_random_seed(parameters.get("seed", 0))
                fed_labels = tf.placeholder(tf.float32, [None, classes])
                attack = ATTACKS[self._library](name, ensemble.target(name), session)
                adversarial = attack.generate(fed_images, y=fed_labels, **parameters)
            feed = {fed_images: images, fed_labels: np.eye(classes, dtype=np.float32)[labels]}
            yield lambda: session.run(adversarial, feed)

    @contextlib.contextmanager
    def training(self, member, images, labels):
        """See `protocol.System`."""
        precisions, filters = self._precisions[member], self._filters[member]
        with _session() as session, _default(session):
            make = TRAININGS[self._library]
            with make(self._network, precisions, filters, images, labels) as step:
                yield step

    @contextlib.contextmanager
    def gemm(self, size):
        """See `protocol.System`."""
        from empir.runtime import tf

        with _session() as session, _default(session):
            matrix = tf.Variable(tf.random_normal([size, size], seed=0))
            session.run(matrix.initializer)
            product = tf.matmul(matrix, matrix)
            yield lambda: session.run(product.op)

    def environment(self):
        """See `protocol.System`."""
        return {"versions": provenance.versions(), "threads": runtime.threads()}


def main():
    """Serve the system that the command line names."""
    parser = protocol.parser(__doc__.splitlines()[0], ATTACKS)
    parser.add_argument("--images", type=int, default=1, help="per call; decides the threads")
    chosen = parser.parse_args()
    runtime.configure(chosen.threads, chosen.images)
    protocol.serve(lambda workload: TensorFlowSystem(workload, chosen.library), chosen.workload)


if __name__ == "__main__":
    main()
