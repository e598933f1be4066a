"""MNISTconvRand: MNISTconv with random weights, the original's network for `--rand`
(docs/original.md, Random weights).

It is MNISTconv at full precision with two changes. In every pass the third convolution's kernel is
drawn from a normal distribution around the trained kernel, with a standard deviation of one. The
rectifier after it is multiplied by a trainable factor, which starts at 0.05.
"""

from dataclasses import replace

from empir.nn import mnistconv


def layers(build, x, f: int):
    """Logits of images x at width f, by a `builder.Builder`."""
    x = build.conv(x, "conv1", f, 8, strides=2)
    x = build.relu(x, "relu1")
    x = build.conv(x, "conv2", 2 * f, 6, strides=2, padding="valid")
    x = build.relu(x, "relu2")
    x = build.random_conv(x, "conv3", 2 * f, 5, padding="valid")
    x = build.scaled_relu(x, "relu3", 0.05)
    x = build.flatten(x)
    return build.linear(x, "logits", 10)


ARCHITECTURE = replace(
    mnistconv.ARCHITECTURE,
    name="MNISTconvRand",
    layers=layers,
    draws=True,
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
