"""Defensive distillation: a teacher, its probabilities of the training images, then a student.

Faithfulness: the original wrote a teacher's probabilities at their place in a shuffled epoch and
read them by the image's index, so they belonged to other images, and it collected them while the
teacher was still learning (docs/original.md, Defects 18). Here they are those of the finished
teacher, of the right images.
"""

import logging
from dataclasses import replace
from typing import Any, Optional, cast

import numpy as np

from empir import runtime
from empir.data import Dataset
from empir.models import checkpoints
from empir.models.member import member_from_arrays
from empir.runtime import progress_bar, tf
from empir.training import loop, training_folder
from empir.training.graph import Settings
from empir.training.objectives import CrossEntropy

log = logging.getLogger(__name__)


def distill(
    student: Settings,
    teacher: Settings,
    data: Dataset,
    teacher_directory: Optional[str] = None,
    **arguments,
) -> dict:
    """Train a teacher, then its student; returns the student's weights as `loop.train` does.

    Args:
      student: settings whose objective is an `objectives.Distillation`; its `teacher` is filled in.
      teacher: settings whose objective is an `objectives.CrossEntropy` of the same T.
      data: training images and labels.
      teacher_directory: where the teacher is kept. One that is there already is taken, whatever it
        was trained with and of whatever width, unless the settings name one. None = it is not
        kept.
      **arguments: others of `loop.train`. The teacher starts from `initial` too if that is a
        full-precision student's.

    Raises:
      CheckpointError: if what `teacher_directory` holds is another network.
      As `loop.train`.
    """
    student.check()
    if teacher_directory and training_folder.is_finished(teacher_directory):
        arrays = checkpoints.read_member(teacher_directory, teacher.network, teacher.precisions)
    else:
        own = dict(arguments, directory=teacher_directory)
        if student.precisions != teacher.precisions:
            own["initial"] = None
        arrays = loop.train(teacher, data, **own)
    soft_labels = probabilities(
        teacher, arrays, data, teacher_directory, arguments.get("progress", True)
    )
    log.info("the teacher is %s", teacher_directory or "not kept")
    distillation: Any = student.objective
    objective = replace(distillation, teacher=checkpoints.digest(arrays))
    student = replace(student, objective=objective)
    return loop.train(student, data, soft_labels=soft_labels, **arguments)


def probabilities(
    teacher: Settings, arrays: dict, data: Dataset, path=None, progress: bool = False
) -> np.ndarray:
    """softmax(logits / T) of every image, float32 [n, classes], in the order of `data`.

    Args:
      teacher: how it was trained; T is its objective's `logit_divisor`.
      arrays: its weights, under their released names.
      data: the images.
      path: where the weights came from, for errors.
      progress: show a progress bar.

    Raises:
      CheckpointError: if the weights are of another network.
    """
    network, objective = teacher.network, cast(CrossEntropy, teacher.objective)
    count = len(data.labels)
    found = np.empty((count, network.num_classes), np.float32)
    with tf.Graph().as_default(), runtime.session(operations=1) as session:
        member = member_from_arrays(
            network, teacher.precisions, arrays, session, path, **teacher.options
        )
        images = tf.placeholder(tf.float32, (None,) + network.input_shape)
        soft = tf.nn.softmax(member.get_logits(images) / objective.logit_divisor)
        with progress_bar(count, "soft labels", "image", progress) as bar:
            for start in range(0, count, loop.EVALUATION_BATCH):
                rows = np.arange(start, min(start + loop.EVALUATION_BATCH, count))
                found[rows] = session.run(soft, {images: data.images[rows]})
                bar.update(len(rows))
    return found
