"""MNISTconv: three convolutions and a linear layer, the paper's MNIST network (FACTS 2.2).

conv 8x8/2 SAME f - ReLU - conv 6x6/2 VALID 2f - ReLU - conv 5x5/1 VALID 2f - ReLU - linear 10,
f = 64, no biases: 709,888 weights and 8.6 million multiplications per image. A low-precision
network quantizes all three convolutions, weights and inputs, so also the image; the linear layer
stays at full precision.
"""

from empir.backend import keras
from empir.layers import QuantConv2D, QuantDense, Softmax, UnitNorm
from empir.models import Architecture
from empir.precision import FULL, per_layer
from empir.quantizers import DoReFaWeights, activation_quantizer, weight_quantizer

#: Convolution -> filters as a multiple of nb_filters, kernel size, stride, padding.
CONVOLUTIONS = {
    "conv1": (1, 8, 2, "same"),
    "conv2": (2, 6, 2, "valid"),
    "conv3": (2, 5, 1, "valid"),
}
LAYERS = tuple(CONVOLUTIONS)


def build(
    precision=FULL,
    nb_filters: int = 64,
    temperature: float = 1.0,
    stochastic_rounding: bool = False,
    stochastic_weights: bool = False,
    trainable: bool = True,
    seed=None,
):
    """Build the network in the current graph.

    Args:
      precision: a `Precision` for all three convolutions, or three of them.
      nb_filters: filters of the first convolution; the others have twice as many.
      temperature: factor on the logits inside the softmax.
      stochastic_rounding: quantize weights and activations with stochastic rounding
        (`--stocRound`).
      stochastic_weights: draw the third convolution's quantized weights anew in every forward
        pass (`--rand`), at its own weight bits or, where it has none, at one bit.
      trainable: False quantizes the weights once per session (`layers.quantize_once`).
      seed: seed of the initial weights; layer i uses seed + i.

    Returns:
      A `keras.Sequential` from float32 images [batch, 28, 28, 1] in [0, 1] to probabilities
      [batch, 10]; its layer "logits" gives the logits.

    Raises:
      EmpirError: for bits outside 1..32 or not one or three precisions.
    """
    precisions = per_layer(precision, len(LAYERS))
    model = keras.Sequential(name="MNISTconv")
    for index, (name, bits) in enumerate(zip(LAYERS, precisions)):
        multiple, size, stride, padding = CONVOLUTIONS[name]
        kernel_quantizer = weight_quantizer(bits.weight_bits, stochastic_rounding)
        if stochastic_weights and name == "conv3":
            kernel_quantizer = DoReFaWeights(bits.weight_bits or 1, stochastic=True)
        draw = keras.initializers.TruncatedNormal(stddev=0.1, seed=_plus(seed, index))
        model.add(
            QuantConv2D(
                multiple * nb_filters,
                size,
                strides=stride,
                padding=padding,
                use_bias=False,
                input_quantizer=activation_quantizer(bits.activation_bits, stochastic_rounding),
                kernel_quantizer=kernel_quantizer,
                kernel_initializer=UnitNorm(draw),
                trainable=trainable,
                name=name,
                **({"input_shape": (28, 28, 1)} if index == 0 else {}),
            )
        )
        model.add(keras.layers.Activation("relu", name="relu%d" % (index + 1)))
    model.add(keras.layers.Flatten(name="flatten"))
    draw = keras.initializers.RandomNormal(seed=_plus(seed, len(LAYERS)))
    linear = dict(use_bias=False, kernel_initializer=UnitNorm(draw), trainable=trainable)
    model.add(QuantDense(10, name="logits", **linear))
    model.add(Softmax(temperature, name="probs"))
    return model


def _plus(seed, index):
    return None if seed is None else seed + index


ARCHITECTURE = Architecture(
    name="MNISTconv",
    build=build,
    input_shape=(28, 28, 1),
    num_classes=10,
    quantized_layers=LAYERS,
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
