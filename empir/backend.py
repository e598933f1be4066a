"""The one place that imports TensorFlow and Keras: checked versions, no start-up noise."""

from empir import runtime

tf, keras = runtime.load_tensorflow()
