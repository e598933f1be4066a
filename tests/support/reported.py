"""A record of a robustness evaluation, small and whole, and a parser of pages about it."""

import copy
from html.parser import HTMLParser

VOID = {"meta", "link", "img", "br", "hr", "input", "col", "wbr", "source"}
NETWORK = dict(path="models/a", sha256="ab" * 32, weight_bits=2, activation_bits=4)
TRIAL = dict(
    name="apgd-ce", part="suite", attack="apgd", goal="mean_logits, ce", steps=40, rounds=1
)
TRIAL.update(targeted=False, everyone=True, attacked=1000, broken=993, accuracy=0.007)
TRIAL.update(worst_case=0.007, seconds=3.2)
RECORD = {
    "schema": 2,
    "dataset": "mnist",
    "architecture": "MNISTconv",
    "combine": "mean_logits",
    "members": [NETWORK, dict(NETWORK, path="models/b", weight_bits=None, activation_bits=None)],
    "outside": [dict(NETWORK, path="models/outside")],
    "eps": 0.3,
    "norm": "linf",
    "seed": 1234,
    "batch_size": 100,
    "num_examples": 1000,
    "data": {"split": "test", "sha256": "cd" * 32},
    "clean_accuracy": 0.9912,
    "worst_case_accuracy": 0.0034,
    "interval": [0.0011, 0.0099],
    "trials": [
        TRIAL,
        dict(TRIAL, name="square", goal=None, attacked=0, broken=0, accuracy=None),
        dict(TRIAL, name="noise-far", part="control", eps=0.9),
        dict(TRIAL, name="apgd-at-0.1", part="radius"),
        dict(TRIAL, name="apgd-100", part="steps"),
    ],
    "curves": {
        "radius": [[0.0, 0.99], [0.1, 0.8], [0.3, 0.0034], [0.4, 0.0]],
        "steps": [[10, 0.5], [20, 0.4], [100, 0.38]],
        "restarts": [[1, 0.4], [2, 0.39]],
        "distortion": [[0.01 * i, i / 300] for i in range(1, 301)],
    },
    "verdicts": [
        dict(name="a", title="Steps", passed=True, reason="Level.", see="docs/r.md#a"),
        dict(name="b", title="Starts", passed=None, reason="One start.", see="docs/r.md#b"),
        dict(name="c", title="Gradients", passed=False, reason="All 0.", see="docs/r.md#c"),
    ],
    "seconds": 300.2,
    "versions": {"tensorflow": "1.15.2"},
    "git_commit": "0123abc",
    "command": "empir robustness --eps=0.3",
}


def record(**changes):
    return dict(copy.deepcopy(RECORD), **changes)


class Parsed(HTMLParser):
    """A document: its elements (tag, attributes, text inside), and tags that do not balance."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.problems, self._open = [], [], []
        self.feed(text)
        self.close()
        self.problems += ["<%s> stays open" % tag for tag, _ in self._open]

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        if len(names) != len(set(names)):
            self.problems.append("<%s> has an attribute twice" % tag)
        element = [tag, dict(attrs), ""]
        self.elements.append(element)
        if tag not in VOID:
            self._open.append((tag, element))

    def handle_startendtag(self, tag, attrs):
        self.elements.append([tag, dict(attrs), ""])

    def handle_endtag(self, tag):
        if not self._open or self._open[-1][0] != tag:
            self.problems.append("</%s> at %s" % (tag, self.getpos()))
        else:
            self._open.pop()
            self.handle_data(" ")  # cells and blocks are apart

    def handle_data(self, data):
        for _, element in self._open:
            element[2] += data

    def all(self, tag, **attributes):
        """Elements of a tag with these attributes (class: one of its classes)."""
        return [
            element
            for element in self.elements
            if element[0] == tag
            and all(
                value in (element[1].get(key) or "").split() for key, value in attributes.items()
            )
        ]

    def texts(self, tag, **attributes):
        return [" ".join(element[2].split()) for element in self.all(tag, **attributes)]
