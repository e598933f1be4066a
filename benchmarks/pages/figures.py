"""Figures as SVG files."""

from typing import TYPE_CHECKING, Callable, Mapping

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write(path: str, draw: Callable[[], "Figure"], style: Mapping[str, object]):
    """Write what a function draws as an SVG file; the same drawing gives the same bytes.

    Args:
      path: of the file.
      draw: draws the figure.
      style: parameters of `matplotlib.rcParams` for it, such as {"font.size": 9}.
    """
    import matplotlib  # here, as it takes half a second to import

    with matplotlib.rc_context({"svg.hashsalt": "empir", **style}):
        draw().savefig(path, format="svg", metadata={"Date": None})
