"""What each check of the attacks means, and what to do about it: the sections of checks.md.

The file is part of the installed package, so that a report contains the explanations that it
refers to. `benchmarks.pages` copies it into docs/robustness.md.
"""

import os
import re
from typing import Dict, List

import markupsafe


def text() -> str:
    """The sections as Markdown."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "checks.md")
    with open(path, encoding="utf8") as file:
        return file.read()


def explanations() -> Dict[str, List[markupsafe.Markup]]:
    """The paragraphs of each section as HTML, by the name of the check."""
    parts = re.split(r"^### (.*)\n", text(), flags=re.MULTILINE)[1:]
    return {
        name: [_inline(paragraph) for paragraph in section.strip().split("\n\n")]
        for name, section in zip(parts[::2], parts[1::2])
    }


def _inline(paragraph):
    """A paragraph as HTML with its code marked, and with the words of its links."""
    words = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", " ".join(paragraph.split()))
    pieces = [markupsafe.escape(piece) for piece in words.split("`")]
    for place in range(1, len(pieces), 2):
        pieces[place] = markupsafe.Markup("<code>%s</code>" % pieces[place])
    return markupsafe.Markup("").join(pieces)
