"""TensorBoard summaries of a training, in a file that says at once if it cannot be written.

TensorFlow's own writer works in the background and only logs what it failed to write, once per
record.
"""

import os
import socket
import time

from empir.errors import EmpirError
from empir.runtime import tf


class Writer:
    """Writes scalars for TensorBoard.

    Args:
      logdir: folder of the file; made if missing.

    Raises:
      EmpirError: if the folder or the file cannot be made or written to.
    """

    def __init__(self, logdir: str):
        self._logdir = logdir
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{int(os.getpid())}"
        try:
            os.makedirs(logdir, exist_ok=True)
            self._file = tf.io.TFRecordWriter(os.path.join(logdir, name))
        except (OSError, tf.errors.OpError) as error:
            raise self._cannot(error)
        self._write(tf.Event(wall_time=time.time(), file_version="brain.Event:2"))
        self.flush()

    def add(self, step: int, **values: float):
        """Keep the values of a step under their names."""
        items = [tf.Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self._write(tf.Event(wall_time=time.time(), step=step, summary=tf.Summary(value=items)))

    def add_graph(self, graph):
        """Keep a graph."""
        self._write(tf.Event(graph_def=graph.as_graph_def(add_shapes=True).SerializeToString()))

    def flush(self):
        """Pass what was kept on to the disk."""
        try:
            self._file.flush()
        except (OSError, tf.errors.OpError) as error:
            raise self._cannot(error)

    def close(self):
        """Flush and close the file."""
        self.flush()
        self._file.close()

    def _write(self, event):
        try:
            self._file.write(event.SerializeToString())
        except (OSError, tf.errors.OpError) as error:
            raise self._cannot(error)

    def _cannot(self, error):
        reason = getattr(error, "strerror", None) or str(error).split("\n")[0]
        return EmpirError(f"--logdir={self._logdir} cannot be written to ({reason})")
