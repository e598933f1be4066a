"""CIFAR-10's images as JPEGs, which take ImageNet's place in the study: no ImageNet is here.

    python -m benchmarks.study.pictures --data_dir=FOLDER --out=OUT --train_images=N --test_images=N
    empir convert --source=OUT/train --split=train --out=TFRECORDS
    empir convert --source=OUT/val --split=val --out=TFRECORDS
    empir train --dataset=benchmarks.study.pictures:ROW --data_dir=TFRECORDS ...

OUT gets train and val, each with a folder per synset and a JPEG per image, which is named by the
image's number in its split of CIFAR-10. A split that is there already is kept.

The pictures are enlarged from 32 to 256 pixels with bicubic interpolation, before the JPEGs are
made. ImageNet's pipeline takes JPEGs of 32 pixels too, and enlarges them itself. But JPEG keeps
their colours at 16 by 16 pixels, TensorFlow's bilinear scaling moves them by almost half a pixel of
the 32, and the windows of training images could only be cut along these pixels. The pipeline scales
test images to a side of 256 pixels, so that it leaves JPEGs of this size as they are: it cuts out
their central 224 pixels, which were 28 of the 32.
"""

import io
import os
from dataclasses import replace

import numpy as np
from absl import flags

from benchmarks.study import plan
from empir import data
from empir.commands import commandline, shared_flags
from empir.data import cifar10, imagenet
from empir.errors import EmpirError
from empir.experiments import imagenet_schedule
from empir.records import locks, runs
from empir.runtime import progress_bar

FLAGS = flags.FLAGS

#: For each class of CIFAR-10, in the order of its labels, a class of ImageNet: its synset and name.
#: None of ImageNet's 1,000 is a deer; a gazelle looks most like one.
SYNSETS = (
    ("n02690373", "airliner"),
    ("n04285008", "sports car"),
    ("n01558993", "robin"),
    ("n02123045", "tabby"),
    ("n02423022", "gazelle"),
    ("n02099601", "golden retriever"),
    ("n01641577", "bullfrog"),
    ("n02389026", "sorrel"),
    ("n03095699", "container ship"),
    ("n04467665", "trailer truck"),
)
#: Pixels of a JPEG's side, and its quality on Pillow's scale.
SIDE, QUALITY = imagenet.SHORT_SIDE, 95
#: Epochs that the original's rates on ImageNet are for (scripts/train_alexnet.sh).
ORIGINAL_EPOCHS = 90


def load(split="test", folder=None) -> data.Dataset:
    """The pictures from TFRecords, as `imagenet.load` reads ImageNet's, under a name of their own.

    Args:
      split: "train" or "test".
      folder: of the TFRecords.
    """
    return replace(imagenet.load(split, folder), name=plan.PICTURES)


def schedule(learning_rate: float, quantized: bool) -> tuple:
    """The original's rates on ImageNet, each from the same share of the epochs on; see `Settings`.

    The epochs are those of the study's plan, and a share of them is rounded to whole epochs.
    """
    epochs = plan.EPOCHS[plan.PICTURES]
    return tuple(
        (round(start * epochs / ORIGINAL_EPOCHS), rate)
        for start, rate in imagenet_schedule(learning_rate, quantized)
    )


ROW = data.register(
    plan.PICTURES,
    load,
    data.DATASETS["imagenet"].shape,
    num_classes=imagenet.NUM_CLASSES,
    clip_range=imagenet.CLIP_RANGE,
    title="CIFAR-10 as JPEGs",
    channels="BGR",
    nb_epochs=plan.EPOCHS[plan.PICTURES],
    schedule=schedule,
)


def write(images: data.Dataset, folder: str, progress: bool = True):
    """Write images as JPEGs into a folder per synset; the folder appears when it is complete.

    Args:
      images: of CIFAR-10, in [0, 1].
      folder: does not exist yet, or is empty.
      progress: show a progress bar.

    Raises:
      EmpirError: if the folder holds something, or cannot be written.
    """
    from PIL import Image

    with runs.new_folder(folder) as unfinished:
        for synset, _ in SYNSETS:
            os.mkdir(os.path.join(unfinished, synset))
        numbers = images.numbers
        with progress_bar(len(numbers), os.path.basename(folder), "image", progress) as bar:
            for pixels, label, number in zip(images.images, images.labels, numbers):
                small = Image.fromarray(np.rint(255 * pixels).astype(np.uint8))
                encoded = io.BytesIO()
                small.resize((SIDE, SIDE), Image.BICUBIC).save(encoded, "JPEG", quality=QUALITY)
                path = os.path.join(unfinished, SYNSETS[label][0], f"{number:05}.JPEG")
                with open(path, "wb") as file:
                    file.write(encoded.getvalue())
                bar.update()


def setup():
    """Define the flags; returns the main function."""
    shared_flags.define_data("data_dir")
    flags.DEFINE_string("out", None, "The folder for train and val. It has no default.")
    for split, name in (("train", "training"), ("test", "test")):
        text = f"The number of {name} images, drawn with each class's share. By default all."
        shared_flags.define_count(f"{split}_images", None, text)
    shared_flags.define_progress()
    return run


def run(_):
    """Write the splits that are not there yet.

    Raises:
      EmpirError: without --out, for more images than there are, or if OUT holds other pictures.
    """
    if FLAGS.out is None:
        raise EmpirError("--out is missing: name a folder")
    counts = {"train": FLAGS.train_images, "test": FLAGS.test_images}
    runs.check_writable(FLAGS.out)
    with locks.lock(FLAGS.out):
        for split, name in (("train", "train"), ("test", "val")):
            description = {"images": counts[split] or "all", "side": SIDE, "quality": QUALITY}
            state = os.path.join(FLAGS.out, f".{name}")
            runs.claim(state, description, True, "set of pictures")
            if not os.path.isdir(os.path.join(FLAGS.out, name)):
                chosen = cifar10.load(split, FLAGS.data_dir)
                chosen = chosen.subset(counts[split]) if counts[split] else chosen
                write(chosen, os.path.join(FLAGS.out, name), FLAGS.progress)


if __name__ == "__main__":
    commandline.run_main(setup, about=__doc__)
