"""Variables that keep what is computed of other variables, once per session."""

from empir.runtime import tf


def computed_once(compute, given, name: str):
    """Variables that keep what is computed of a tensor, and the operation that computes it.

    The variables are in no collection: nothing but the operation gives them values, and no
    checkpoint holds them.

    The operation is a function that no graph is rewritten for: intel-tensorflow looks for oneDNN's
    kernels for each operation of a graph that a session call needs, in a list of all kernels. That
    takes many times as long as to quantize a kernel.

    Args:
      compute: takes a tensor of known shape, and returns one tensor or a structure of them.
      given: the tensor.
      name: of the variables.

    Returns:
      The variables, in the structure that `compute` returns, and the operation.
    """
    from tensorflow.python.framework.function import Defun  # loaded by empir.runtime, configured

    structure = []

    @Defun(given.dtype, noinline=True)
    def computed(inside):
        inside.set_shape(given.shape)
        structure.append(compute(inside))
        return tf.nest.flatten(structure[0])

    values = computed(given)
    values = list(values) if isinstance(values, (list, tuple)) else [values]
    variables, steps = [], []
    for value, known in zip(values, tf.nest.flatten(structure[0])):
        # Of `value` as its first one, TensorFlow would add operations that ask whether the
        # variables that it depends on have theirs. In no collection, as no initializer of a
        # collection may take these zeros for it.
        zeros = tf.zeros(known.shape, known.dtype)
        variables.append(tf.Variable(zeros, trainable=False, collections=[], name=name))
        steps.append(tf.assign(variables[-1], value).op)
    return tf.nest.pack_sequence_as(structure[0], variables), tf.group(*steps)
