"""AlexNet with batch normalisation, the paper's ImageNet network (docs/original.md, Networks).

conv 12x12/4 VALID 3f, a bias per position - ReLU
- conv 5x5 8f in 2 groups - BN - max pool 3/2 SAME - ReLU
- conv 3x3 12f - BN - max pool 3/2 SAME - ReLU
- conv 3x3 12f in 2 groups - BN - ReLU
- conv 3x3 8f in 2 groups - BN - max pool 3/2 VALID - ReLU
- linear 4096 with bias - BN - ReLU - linear 4096 - BN - ReLU - linear 1000 with bias,

f = 32: 61,284,200 weights, 1.9 billion multiplications per image of 224x224. The shape is that of
tensorpack's DoReFa-Net example. A low-precision network quantizes the weights and inputs of
conv2 to conv5, fc6 and fc7, 56,823,808 of the weights; the first and the last layer stay at full
precision.
"""

from empir.nn import Architecture

QUANTIZED = ("conv2", "conv3", "conv4", "conv5", "fc6", "fc7")


def layers(build, x, f: int):
    """Logits of images x at width f, by a `builder.Builder`; linear layers have fixed widths."""
    x = build.conv(x, "conv1", 3 * f, 12, strides=4, padding="valid")
    x = build.position_bias(x, "conv1_bias")
    x = build.relu(x, "relu1")
    x = build.conv(x, "conv2", 8 * f, 5, groups=2)
    x = build.batch_norm(x, "bn2")
    x = build.max_pool(x, "pool2", "same")
    x = build.relu(x, "relu2")
    x = build.conv(x, "conv3", 12 * f, 3)
    x = build.batch_norm(x, "bn3")
    x = build.max_pool(x, "pool3", "same")
    x = build.relu(x, "relu3")
    x = build.conv(x, "conv4", 12 * f, 3, groups=2)
    x = build.batch_norm(x, "bn4")
    x = build.relu(x, "relu4")
    x = build.conv(x, "conv5", 8 * f, 3, groups=2)
    x = build.batch_norm(x, "bn5")
    x = build.max_pool(x, "pool5", "valid")
    x = build.relu(x, "relu5")
    x = build.flatten(x)
    x = build.linear(x, "fc6", 4096, use_bias=True)
    x = build.batch_norm(x, "bn6")
    x = build.relu(x, "relu6")
    x = build.linear(x, "fc7", 4096)
    x = build.batch_norm(x, "bn7")
    x = build.relu(x, "relu7")
    return build.linear(x, "logits", 1000, use_bias=True)


#: Our weight name -> the released one without its prefix "fp_" or "lp_".
RELEASED = {
    "conv1/kernel": "conv1_init/k",
    "conv1_bias/bias": "conv1_init/b",
    "conv2/kernel": "conv2_init/k",
    "conv3/kernel": "conv3_init/k",
    "conv4/kernel": "conv4_init/k",
    "conv5/kernel": "conv5_init/k",
    "fc6/kernel": "ip1init/W",
    "fc6/bias": "ip1init/b",
    "fc7/kernel": "ip2init/W",
    "logits/kernel": "logits_init/W",
    "logits/bias": "logits_init/b",
}
# The original numbers its normalisations 1 to 6; the scope's name ends in an underscore.
RELEASED.update(
    ("bn%d/%s" % (number + 1, name), "_batchNorm%d/batch_normalization/%s" % (number, name))
    for number in range(1, 7)
    for name in ("gamma", "beta", "moving_mean", "moving_variance")
)

ARCHITECTURE = Architecture(
    name="AlexNet",
    layers=layers,
    input_shape=(224, 224, 3),
    num_classes=1000,
    quantized_layers=QUANTIZED,
    nb_filters=32,
    released_names={
        family: {own: "%s_%s" % (family, released) for own, released in RELEASED.items()}
        for family in ("fp", "lp")
    },
    first_filters=3,
)
