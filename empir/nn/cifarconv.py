"""CIFARconv: three convolutions and two linear layers, the paper's CIFAR-10 network
(docs/original.md, Networks).

conv 5x5 SAME f - max pool 3/2 - ReLU - conv 5x5 SAME f - ReLU - average pool 3/2 - conv 5x5 SAME 2f
- ReLU - average pool 3/2 - linear 64 - linear 10, f = 32, pools VALID, no biases, no ReLU between
the linear layers: 116,704 weights and 10.8 million multiplications per image. A low-precision
network quantizes all three convolutions, weights and inputs, so also the image; the linear layers,
37,504 of the weights, stay at full precision.
"""

from empir.nn import Architecture


def layers(build, x, f: int):
    """Logits of images x at width f, by a `builder.Builder`."""
    x = build.conv(x, "conv1", f, 5)
    x = build.max_pool(x, "pool1", "valid")
    x = build.relu(x, "relu1")
    x = build.conv(x, "conv2", f, 5)
    x = build.relu(x, "relu2")
    x = build.average_pool(x, "pool2")
    x = build.conv(x, "conv3", 2 * f, 5)
    x = build.relu(x, "relu3")
    x = build.average_pool(x, "pool3")
    x = build.flatten(x)
    x = build.linear(x, "linear1", 64)
    return build.linear(x, "logits", 10)


#: Our weight name -> the released one without its prefix "fp_" or "lp_".
RELEASED = {
    "conv1/kernel": "conv1_init/k",
    "conv2/kernel": "conv2_init/k",
    "conv3/kernel": "conv3_init/k",
    "linear1/kernel": "ip1init/W",
    "logits/kernel": "logits_init/W",
}

ARCHITECTURE = Architecture(
    name="CIFARconv",
    layers=layers,
    input_shape=(32, 32, 3),
    num_classes=10,
    quantized_layers=("conv1", "conv2", "conv3"),
    nb_filters=32,
    released_names={
        family: {own: "%s_%s" % (family, released) for own, released in RELEASED.items()}
        for family in ("fp", "lp")
    },
)
