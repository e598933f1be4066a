"""Pictures and TFRecord files that the tests of ImageNet's data make."""

import numpy as np

from empir.data import imagenet
from empir.runtime import tf

SYNSETS = imagenet.synsets()


def encode(image, kind="jpeg"):
    """A uint8 image [h, w, 3] as JPEG or PNG bytes."""
    with tf.Graph().as_default(), tf.Session() as session:
        encoder = tf.image.encode_png if kind == "png" else tf.image.encode_jpeg
        return session.run(encoder(tf.constant(image)))


def everything(data):
    """(images, labels) of all examples."""
    rows = np.arange(len(data.labels))
    return data.images[rows], data.labels[rows]


def write_records(path, *examples):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for example in examples:
            writer.write(example)


def features(**values):
    """A serialized example of bytes and integers."""
    feature = {}
    for name, value in values.items():
        if isinstance(value, bytes):
            kept = tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        else:
            kept = tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
        feature[name.replace("__", "/")] = kept
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()
