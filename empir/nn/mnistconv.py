"""MNISTconv: three convolutions and a linear layer, the paper's MNIST network (docs/original.md,
Networks).

conv 8x8/2 SAME f - ReLU - conv 6x6/2 VALID 2f - ReLU - conv 5x5/1 VALID 2f - ReLU - linear 10,
f = 64, no biases: 709,888 weights and 8.6 million multiplications per image. A low-precision
network quantizes all three convolutions, weights and inputs, so also the image; the linear layer
stays at full precision.
"""

from empir.nn import Architecture


def layers(build, x, f: int):
    """Logits of images x at width f, by a `builder.Builder`."""
    x = build.conv(x, "conv1", f, 8, strides=2)
    x = build.relu(x, "relu1")
    x = build.conv(x, "conv2", 2 * f, 6, strides=2, padding="valid")
    x = build.relu(x, "relu2")
    x = build.conv(x, "conv3", 2 * f, 5, padding="valid")
    x = build.relu(x, "relu3")
    x = build.flatten(x)
    return build.linear(x, "logits", 10)


ARCHITECTURE = Architecture(
    name="MNISTconv",
    layers=layers,
    input_shape=(28, 28, 1),
    num_classes=10,
    quantized_layers=("conv1", "conv2", "conv3"),
    nb_filters=64,
    released_names={
        "fp": {
            "conv1/kernel": "fp_conv1_init/k",
            "conv2/kernel": "fp_conv2_init/k",
            "conv3/kernel": "fp_conv3_init/k",
            "logits/kernel": "fp_logits_init/W",
        },
        "lp": {
            "conv1/kernel": "lp_conv1_init/k",
            "conv2/kernel": "lp_conv2_bin_init/k",
            "conv3/kernel": "lp_conv3_bin_init/k",
            "logits/kernel": "lp_logits_init/W",
        },
    },
)
