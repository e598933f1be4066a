"""The fenced blocks of README.md, CONTRIBUTING.md and docs/, and how a test reads them."""

import glob
import os
import re
import shlex
from typing import NamedTuple

from tests.support import ROOT

#: A block, after a comment that says what a test does with it.
FENCE = re.compile(
    r"(?:<!-- (?P<marker>run|slow) -->\n+)?"
    r'^```(?P<language>\w*)(?: title="(?P<title>\S+)")?\n(?P<text>.*?)^```$',
    re.M | re.S,
)


class Block(NamedTuple):
    """A fenced block.

    Attributes:
      page: path of its page, relative to the repository.
      line: of the page, at which it begins.
      language: after the fence.
      marker: "run", "slow" or None.
      title: name of the file that it shows, or None.
      text: what it holds.
    """

    page: str
    line: int
    language: str
    marker: str
    title: str
    text: str

    def __str__(self):
        return "%s:%d" % (self.page, self.line)

    def commands(self):
        """The words of each command of a bash block."""
        pending = ""
        for line in self.text.replace("\\\n", "").splitlines():
            pending += line
            try:
                words = shlex.split(pending, comments=True)
            except ValueError:  # a quotation goes on in the next line
                pending += "\n"
                continue
            pending = ""
            while "&&" in words:
                place = words.index("&&")
                yield words[:place]
                words = words[place + 1 :]
            if words:
                yield words


def pages():
    """Paths of the pages, relative to the repository."""
    found = glob.glob(os.path.join(ROOT, "docs", "**", "*.md"), recursive=True)
    return ["README.md", "CONTRIBUTING.md"] + sorted(os.path.relpath(p, ROOT) for p in found)


def blocks(language=None):
    """All blocks, or those of a language."""
    for page in pages():
        with open(os.path.join(ROOT, page), encoding="utf8") as file:
            text = file.read()
        for match in FENCE.finditer(text):
            line = text.count("\n", 0, match.start("language")) + 1
            block = Block(page, line, **match.groupdict())
            if language in (None, block.language):
                yield block
