"""Figures and checkpoints that were published, as data files that come with the package.

- paper.json: the accuracies of the paper's table and its statement on overhead, in percent, and the
  clean accuracies of the authors' released CIFAR-10 members, each with its source.
- manifest.json: the members that were trained here, with the digests of their weights and files,
  and the links of the authors' nine checkpoints. Paths are relative to the repository's clone; the
  checkpoints themselves are not in an installed package.
"""

import json
import os

_FOLDER = os.path.dirname(os.path.abspath(__file__))
PAPER = os.path.join(_FOLDER, "paper.json")
MANIFEST = os.path.join(_FOLDER, "manifest.json")


def paper() -> dict:
    """The content of paper.json."""
    with open(PAPER, encoding="utf8") as file:
        return json.load(file)
