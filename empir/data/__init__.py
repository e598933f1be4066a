"""Images and labels: the paper's datasets, others that a program registers, and own files."""

from empir.data import cifar10, imagenet, mnist
from empir.data.dataset import DATASETS, OWN, Dataset, Row, check, from_bytes, register

__all__ = ["DATASETS", "Dataset", "OWN", "Row", "check", "from_bytes", "register"]

register("mnist", mnist.load, (28, 28, 1), title="MNIST", options=("sample", "any_data"))
register("cifar10", cifar10.load, (32, 32, 3), title="CIFAR-10", options=("sample", "any_data"))
register(
    "imagenet",
    imagenet.load,
    (imagenet.SIZE, imagenet.SIZE, 3),
    title="ImageNet",
    num_classes=imagenet.NUM_CLASSES,
    clip_range=imagenet.CLIP_RANGE,
    channels="BGR",
    options=("label_offset", "allow_missing_shards", "correct_channels"),
)
