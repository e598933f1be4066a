"""Pages of the documentation site that are made from files outside docs/ (an MkDocs hook).

- index.md is README.md, and changelog.md and contributing.md are CHANGELOG.md and CONTRIBUTING.md.
- api/*.md has a page for each package below empir/, with the docstrings of its modules. They are
  found in the file tree and read without being imported, so that moving a module needs no change.
- Figures that pages take from results/ are copied into the site.
"""

import os
import re

from mkdocs.structure.files import File

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PACKAGE = "empir"
#: Page of the site -> file of the repository.
COPIES = {
    "index.md": "README.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
}
FIGURE = re.compile(r"\]\((?:\.\./)*(results/[\w/.-]+\.svg)\)")


def on_config(config):
    """Add the API reference to the end of the navigation."""
    pages = [name for name in api_pages() if name != "api/index.md"]
    config.nav.append({"API reference": ["api/index.md"] + pages})
    return config


def on_files(files, config):
    """Add the pages and figures."""
    contents = api_pages()
    for page, name in COPIES.items():
        contents[page] = relinked(read(name))
    for page, content in contents.items():
        files.append(File.generated(config, page, content=content))
    texts = list(contents.values()) + [file.content_string for file in files.documentation_pages()]
    for figure in sorted({name for text in texts for name in FIGURE.findall(text)}):
        path = os.path.join(ROOT, figure)
        files.append(File.generated(config, figure, abs_src_path=path))
    return files


def on_page_markdown(markdown, page, config, files):
    """Point the figures of docs/ to their copies."""
    return FIGURE.sub(r"](\1)", markdown)


def read(name):
    """The text of a file of the repository."""
    with open(os.path.join(ROOT, name), encoding="utf8") as file:
        return file.read()


def relinked(text):
    """A page of the repository's root with the links that it needs in the site."""
    for page, name in COPIES.items():
        text = text.replace("](%s)" % name, "](%s)" % page)
    return text.replace("](docs/", "](")


def modules():
    """Package -> names of its modules, the package first, in the order of the file tree."""
    found = {}
    for folder, folders, names in os.walk(os.path.join(ROOT, PACKAGE)):
        folders[:] = sorted(f for f in folders if not f.startswith(("_", ".")))
        if "__init__.py" not in names:
            continue
        package = os.path.relpath(folder, ROOT).replace(os.sep, ".")
        inner = sorted(n[:-3] for n in names if n.endswith(".py") and not n.startswith("_"))
        found[package] = [package] + ["%s.%s" % (package, name) for name in inner]
    return found


def api_pages():
    """Path in the site -> Markdown of the API reference."""
    pages, rows = {}, []
    for package, names in sorted(modules().items()):
        path = "api/%s.md" % package
        pages[path] = "\n".join(["# %s" % package, ""] + ["::: %s\n" % name for name in names])
        links = ("[%s](%s.md#%s)" % (name.split(".")[-1], package, name) for name in names[1:])
        rows.append("| [%s](%s.md) | %s |" % (package, package, ", ".join(links)))
    head = [
        "# API reference",
        "",
        "Each package of the project has a page, with all its modules.",
        "",
    ]
    pages["api/index.md"] = "\n".join(head + ["| package | modules |", "| --- | --- |"] + rows)
    return pages
