"""Random crops, flips and lighting of ImageNet's training images (docs/original.md, Data)."""

import math
from dataclasses import dataclass

import numpy as np

#: Crop: least and largest part of the image's area, and of width / height; number of attempts.
AREA = (0.1, 1.0)
ASPECT = (0.75, 1.33)
ATTEMPTS = 100

#: Standard deviation of the lighting's coefficients, and the principal components of ImageNet's
#: colours (Krizhevsky et al. 2012, section 4.1; values as widely used), on a scale of 0..255.
LIGHTING = 0.1
EIGENVALUES = np.array([0.2175, 0.0188, 0.0045]) * 255
EIGENVECTORS = np.array(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
)


@dataclass(frozen=True)
class Distortion:
    """How one image is distorted.

    Attributes:
      window: top, left, height and width of the crop in pixels.
      flip: whether left and right are exchanged.
      light: what is added to red, green and blue, on a scale of 0..255.
    """

    window: tuple
    flip: bool
    light: np.ndarray


def draw(random: np.random.RandomState, height: int, width: int) -> Distortion:
    """Draw the distortion of an image of that size.

    Faithfulness: the distribution of tf.image.sample_distorted_bounding_box for a box that is the
    whole image: least 0.1 of it covered, which makes the original's least area of 0.05 void. The
    original draws the lighting once per run (docs/original.md, Defects 20); here it is drawn per
    image.
    """
    window = _window(random, height, width)
    flip = bool(random.randint(2))
    light = EIGENVECTORS @ (random.normal(0, LIGHTING, 3) * EIGENVALUES)
    return Distortion(window, flip, light.astype(np.float32))


def _window(random, height, width):
    least, largest = (part * height * width for part in AREA)
    for _ in range(ATTEMPTS):
        aspect = random.uniform(*ASPECT)
        lowest = math.ceil(math.sqrt(least / aspect))
        highest = min(int(math.sqrt(largest / aspect)), height, int(width / aspect))
        if lowest > highest:
            continue
        rows = random.randint(lowest, highest + 1)
        columns = int(round(rows * aspect))
        if columns > width or not least <= rows * columns <= largest:
            continue
        top, left = random.randint(height - rows + 1), random.randint(width - columns + 1)
        return top, left, rows, columns
    return 0, 0, height, width
