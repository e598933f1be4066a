"""Compare two evaluations of the same images by McNemar's exact test.

    empir compare runs/vote runs/mean_logits
    empir compare results/robustness/mnist-ensemble-0.1-vote.json runs/mine

Each is the folder of a finished `empir robustness` or `empir attack`, or a record with its
images.npz beside it (NAME.json and NAME.npz). An image is correct if it is classified correctly
without an attack and under every attack of the evaluation. The test looks at the images that are
correct in only one of the two: if there were nothing between them, either would have half of these.
"""

import os
from typing import Sequence, Tuple

from empir.errors import EmpirError
from empir.evaluation import per_image
from empir.records.runs import read_json
from empir.report.tables import probability

USAGE = "usage: empir compare FIRST SECOND, two folders of runs or two records"


def main(argv: Sequence[str]) -> int:
    """Print the comparison; returns the exit status.

    Raises:
      EmpirError: for another command line, for a run that is unfinished or damaged, or if the two
        are not of the same images.
    """
    if len(argv) != 2 or any(word.startswith("-") for word in argv):
        raise EmpirError(USAGE)
    (one, first), (other, second) = map(_evaluation, argv)
    if one["data"]["sha256"] != other["data"]["sha256"]:
        raise EmpirError(f"{argv[0]} and {argv[1]} are not of the same images: draw the same ones")
    found = first.against(second)
    for title, path, images in zip(("first", "second"), argv, (first, second)):
        worst = images.worst_case()
        limits = "%.2f to %.2f" % worst.interval
        print(f"{title}: {path}: {worst.percent:.2f} % correct (95 % interval {limits})")
    print(
        f"Of {found.images} images {found.first} are correct in the first only, and "
        f"{found.second} in the second only."
    )
    print(f"McNemar's exact test: p = {probability(found.p)}")
    return 0


def _evaluation(path: str) -> Tuple[dict, per_image.Images]:
    """The record of a run, or in a file, and what was found on its images."""
    record, images = path, os.path.splitext(path)[0] + ".npz"
    if os.path.isdir(path):
        record, images = os.path.join(path, "result.json"), os.path.join(path, per_image.NAME)
    for needed in (record, images):
        if not os.path.isfile(needed):
            raise EmpirError(f"there is no {needed}: {path} is no finished run; {USAGE}")
    told = read_json(record)
    return told, per_image.read_of(images, told)
