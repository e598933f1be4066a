"""Escapes text of records, such as paths and commands, so that Markdown shows it unchanged."""

import re

#: Characters that begin markup or HTML anywhere in a line, or end a table's cell.
MARKUP = re.compile(r"[\\`*|\[\]]")


def plain(text) -> str:
    """A text on one line that Markdown shows as it is."""
    line = " ".join(str(text).split())
    line = line.replace("&", "&amp;").replace("<", "&lt;")
    # Brackets are markup only in front of an address, and not in an interval.
    return MARKUP.sub(lambda found: _escaped(found, line), line)


def _escaped(found, line):
    mark, after = found.group(), line[found.end() : found.end() + 1]
    if mark == "[" or (mark == "]" and after not in ("(", "[", ":")):
        return mark
    return "\\" + mark


def code(text, cell: bool = False) -> str:
    """A text, which may contain backticks, on one line as a code span.

    Args:
      text: any text.
      cell: whether to escape bars, because the span is in a table, where a bar ends the cell.
    """
    line = " ".join(str(text).split())
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    if line[:1] == "`" or line[-1:] == "`" or not line:
        line = " %s " % line
    return fence + (line.replace("|", "\\|") if cell else line) + fence
