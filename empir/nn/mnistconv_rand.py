"""MNISTconvRand: MNISTconv with random weights, the original's network for `--rand`
(docs/original.md, Random weights).

It is MNISTconv at full precision with two changes. In every pass the third convolution's kernel is
drawn from a normal distribution around the trained kernel, with a standard deviation of one. The
rectifier after it is multiplied by a trainable factor, which starts at 0.05.
"""

from empir.nn import mnistconv


def layers(stack, f: int):
    """Add the layers at width f to a `stack.Stack`."""
    stack.conv("conv1", f, 8, strides=2)
    stack.relu("relu1")
    stack.conv("conv2", 2 * f, 6, strides=2, padding="valid")
    stack.relu("relu2")
    stack.random_conv("conv3", 2 * f, 5, padding="valid")
    stack.scaled_relu("relu3", 0.05)
    stack.flatten()
    stack.linear("logits", 10)


ARCHITECTURE = mnistconv.ARCHITECTURE._replace(
    name="MNISTconvRand",
    layers=layers,
    released_names={
        "fp": {
            "conv1/kernel": "fp_randconv1_init/k",
            "conv2/kernel": "fp_randconv2_init/k",
            "conv3/kernel": "fp_randconv3_init/k",
            "relu3/activation_scalar": "fp_randsrelu3_fp_init/activation_scalar",
            "logits/kernel": "fp_randlogits_init/W",
        },
    },
)
