"""What each check of the attacks means, and what to do about it: the sections of checks.md.

The text stands in docs/robustness.md too; this copy is part of the installed package, so that a
report holds what it refers to.
"""

import os
import re
from typing import Dict, List

import markupsafe

PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "checks.md")


def explanations() -> Dict[str, List[markupsafe.Markup]]:
    """Name of a check -> its paragraphs as HTML; names are those of `robustness.verdicts`."""
    with open(PATH, encoding="utf8") as file:
        parts = re.split(r"^### (.*)\n", file.read(), flags=re.MULTILINE)[1:]
    return {
        name: [_inline(paragraph) for paragraph in text.strip().split("\n\n")]
        for name, text in zip(parts[::2], parts[1::2])
    }


def _inline(text):
    """A paragraph with its code marked; of links to elsewhere their words."""
    words = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", " ".join(text.split()))
    pieces = [markupsafe.escape(piece) for piece in words.split("`")]
    for place in range(1, len(pieces), 2):
        pieces[place] = markupsafe.Markup("<code>%s</code>" % pieces[place])
    return markupsafe.Markup("").join(pieces)
