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


def layers(stack, f: int):
    """Add the layers at width f to a `stack.Stack`; the linear layers' widths are fixed."""
    stack.conv("conv1", 3 * f, 12, strides=4, padding="valid")
    stack.position_bias("conv1_bias")
    stack.relu("relu1")
    stack.conv("conv2", 8 * f, 5, groups=2)
    stack.batch_norm("bn2")
    stack.max_pool("pool2", "same")
    stack.relu("relu2")
    stack.conv("conv3", 12 * f, 3)
    stack.batch_norm("bn3")
    stack.max_pool("pool3", "same")
    stack.relu("relu3")
    stack.conv("conv4", 12 * f, 3, groups=2)
    stack.batch_norm("bn4")
    stack.relu("relu4")
    stack.conv("conv5", 8 * f, 3, groups=2)
    stack.batch_norm("bn5")
    stack.max_pool("pool5", "valid")
    stack.relu("relu5")
    stack.flatten()
    stack.linear("fc6", 4096, use_bias=True)
    stack.batch_norm("bn6")
    stack.relu("relu6")
    stack.linear("fc7", 4096)
    stack.batch_norm("bn7")
    stack.relu("relu7")
    stack.linear("logits", 1000, use_bias=True)


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
