"""Clean images beside their adversarial images, as a PNG file (--viz_enabled).

For an untargeted attack each row shows a clean image, its adversarial image and their difference.
For a targeted attack each row shows a clean image and an adversarial image per target class; the
column of the image's own class stays empty.
"""

import io
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Optional, Tuple

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from empir.errors import EmpirError
from empir.records.runs import write_atomically

if TYPE_CHECKING:
    from empir.evaluation.single import Job

log = logging.getLogger(__name__)

DPI = 100
#: Images with a shorter side, in pixels, are magnified by a whole number.
LEAST_SIDE = 150
CAPTION = 20  # pixels of the line above an image
GAP = 12  # pixels between columns, and around the figure
TITLE = 56  # pixels of the title and the heads of the columns

#: Colour of the captions of misclassified images, and of targets that were reached.
MARKED = "C3"


@dataclass(frozen=True)
class Pairs:
    """What is drawn; each row of the arrays is an example.

    Attributes:
      clean, adversarial: float32 [n, height, width, 1 or 3] in `clip_range`.
      image: int [n], the number of an example's clean image; equal numbers follow each other.
      label: int [n], true classes.
      clean_decision, decision: int [n], predicted classes of the clean and adversarial images.
      l2, linf: float [n], distances.
      target: int [n], target classes; None if the attack has none.
      targeted: whether to draw a column for each target class, which needs `target`.
      clip_range: lowest and highest value of an image.
      channels: "RGB" or "BGR", the order of three channels.
      title: first line of the figure.
    """

    clean: np.ndarray
    adversarial: np.ndarray
    image: np.ndarray
    label: np.ndarray
    clean_decision: np.ndarray
    decision: np.ndarray
    l2: np.ndarray
    linf: np.ndarray
    target: Optional[np.ndarray] = None
    targeted: bool = False
    clip_range: Tuple[float, float] = (0.0, 1.0)
    channels: str = "RGB"
    title: str = ""


def of(job: "Job", arrays: dict, title: str) -> Pairs:
    """The examples of an attack that are kept to be shown.

    Args:
      job: the attack, with `show`.
      arrays: of its examples, see `Job.columns`.
      title: see `Pairs`.
    """
    rows = np.flatnonzero(job.is_shown(np.arange(job.num_examples)))
    images, place = np.unique(arrays["index"][rows], return_inverse=True)
    return Pairs(
        title=title,
        targeted=job.targeted,
        clip_range=job.data.clip_range,
        channels=job.data.channels,
        clean=job.data.images[images][place],
        adversarial=arrays["shown"],
        image=arrays["index"][rows],
        label=arrays["label"][rows],
        clean_decision=arrays[f"clean_{job.ensemble.combine}"][rows],
        decision=arrays[f"adversarial_{job.ensemble.combine}"][rows],
        target=arrays["target"][rows] if job.has_targets else None,
        l2=arrays["l2"][rows],
        linf=arrays["linf"][rows],
    )


def visible(images, clip_range, channels: str = "RGB") -> np.ndarray:
    """Images as matplotlib draws them: `clip_range` becomes [0, 1], BGR becomes RGB.

    ImageNet's images have less contrast here than in the JPEGs, because the range for attacks is
    wider than that of the images.

    Args:
      images: float [..., 1 or 3] in `clip_range`.
      clip_range: lowest and highest value of an image.
      channels: "RGB" or "BGR".

    Returns:
      float [...] of grey images, [..., 3] of others, in [0, 1].
    """
    low, high = clip_range
    scaled = np.clip((np.asarray(images) - low) / (high - low), 0, 1)
    if scaled.shape[-1] == 1:
        return scaled[..., 0]
    return scaled[..., ::-1] if channels == "BGR" else scaled


def difference(clean, adversarial, channels: str = "RGB"):
    """The change of an image by an attack: -scale is drawn as 0, no change as 0.5, scale as 1.

    Args:
      clean, adversarial: float [height, width, 1 or 3].
      channels: "RGB" or "BGR".

    Returns:
      The picture, as `visible` returns it, and its scale in the images' units: the largest absolute
      difference, which is the L-infinity distance.
    """
    change = np.asarray(adversarial, np.float64) - clean
    scale = float(np.abs(change).max())
    return visible(change, (-scale, scale) if scale else (-1, 1), channels), scale


class _Sheet:
    """A figure of images in rows and columns with a caption above each."""

    def __init__(self, rows, heads, shape, title):
        side = max(shape)
        self._side = side * -(-LEAST_SIDE // side)
        self._width = GAP + len(heads) * (self._side + GAP)
        self._height = TITLE + rows * (self._side + CAPTION) + GAP
        self.figure = Figure((self._width / DPI, self._height / DPI), dpi=DPI)
        FigureCanvasAgg(self.figure)
        self._text(GAP, GAP, title, 8, "left")
        for column, head in enumerate(heads):
            center = GAP + column * (self._side + GAP) + self._side // 2
            self._text(center, TITLE - 14, head, 8, "center")

    def _text(self, x, y, text, size, align):
        where = (x / self._width, 1 - y / self._height)
        self.figure.text(*where, text, fontsize=size, ha=align, va="top")

    def add(self, row, column, picture, caption, marked=False):
        """Draw an image, float [height, width] or [height, width, 3] in [0, 1]."""
        left = GAP + column * (self._side + GAP)
        top = TITLE + row * (self._side + CAPTION) + CAPTION
        width, height = self._width, self._height
        axes = self.figure.add_axes(
            [
                left / width,
                1 - (top + self._side) / height,
                self._side / width,
                self._side / height,
            ]
        )
        axes.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_title(caption, fontsize=7, pad=3, color=MARKED if marked else "black")
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set(edgecolor="0.6", linewidth=0.5)


def draw(pairs: Pairs) -> Figure:
    """The figure of some examples; the module describes its rows and columns."""
    return _draw_grid(pairs) if pairs.targeted else _draw_rows(pairs)


def _draw_rows(pairs):
    title = pairs.title + ". \N{RIGHTWARDS ARROW}: predicted class; red: misclassified"
    heads = ("clean", "adversarial", "difference")
    sheet = _Sheet(len(pairs.label), heads, pairs.clean.shape[1:3], title)
    for row in range(len(pairs.label)):
        _add_clean(sheet, row, pairs, row)
        aim = "" if pairs.target is None else "target %d " % pairs.target[row]
        wrong = pairs.decision[row] != pairs.label[row]
        _add_adversarial(sheet, row, 1, pairs, row, aim, wrong)
        picture, scale = difference(pairs.clean[row], pairs.adversarial[row], pairs.channels)
        sheet.add(row, 2, picture, "grey is 0, scale \N{PLUS-MINUS SIGN}%.3g" % scale)
    return sheet.figure


def _draw_grid(pairs):
    title = (
        "%s, targeted. \N{RIGHTWARDS ARROW}: predicted class; red: the target is reached, or a "
        "clean image is misclassified" % pairs.title
    )
    targets = sorted(set(pairs.target.tolist()))
    images, first = np.unique(pairs.image, return_index=True)
    heads = ["clean"] + ["target %d" % target for target in targets]
    sheet = _Sheet(len(images), heads, pairs.clean.shape[1:3], title)
    for row, example in enumerate(first):
        _add_clean(sheet, row, pairs, example)
    for example, target in enumerate(pairs.target.tolist()):
        row = int(np.searchsorted(images, pairs.image[example]))
        reached = pairs.decision[example] == target
        _add_adversarial(sheet, row, 1 + targets.index(target), pairs, example, "", reached)
    return sheet.figure


def _add_clean(sheet, row, pairs, example):
    label, decision = pairs.label[example], pairs.clean_decision[example]
    caption = "label %d \N{RIGHTWARDS ARROW} %d" % (label, decision)
    picture = visible(pairs.clean[example], pairs.clip_range, pairs.channels)
    sheet.add(row, 0, picture, caption, decision != label)


def _add_adversarial(sheet, row, column, pairs, example, aim, marked):
    caption = "%s\N{RIGHTWARDS ARROW} %d, L2 %.3g, L\N{INFINITY} %.3g" % (
        aim,
        pairs.decision[example],
        pairs.l2[example],
        pairs.linf[example],
    )
    picture = visible(pairs.adversarial[example], pairs.clip_range, pairs.channels)
    sheet.add(row, column, picture, caption, marked)


def save(pairs: Pairs, path: str):
    """Write the figure to a PNG file atomically; the same pairs give the same bytes.

    Raises:
      EmpirError: if the file cannot be written.
    """
    content = io.BytesIO()
    draw(pairs).savefig(content, format="png", dpi=DPI, metadata={"Software": None})
    try:
        write_atomically(path, content.getvalue())
    except OSError as error:
        raise EmpirError("cannot write %s: %s" % (path, error.strerror))


def show(path: str):
    """Show a PNG file in a window until it is closed; without a display do nothing."""
    try:
        from matplotlib import pyplot

        interactive = [name.lower() for name in matplotlib.rcsetup.interactive_bk]
        if matplotlib.get_backend().lower() not in interactive:
            return
        picture = pyplot.imread(path)
        height, width = picture.shape[:2]
        figure = pyplot.figure(figsize=(width / DPI, height / DPI), dpi=DPI)
        figure.add_axes([0, 0, 1, 1]).imshow(picture)
        figure.axes[0].set_axis_off()
        pyplot.show()
        pyplot.close(figure)
    except Exception as error:  # displays raise many errors, and the file exists all the same
        log.debug("%s is not shown in a window: %s", path, error)
