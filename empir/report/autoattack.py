"""The table of the records that `python -m benchmarks.autoattack` wrote."""

import glob
import os

from empir.nn.precision import Precision
from empir.report import escape, shapes
from empir.report.robustness import NORMS, percent
from empir.report.tables import pipe_table

HEADS = [
    "members",
    "of",
    "norm",
    "radius",
    "images",
    "suite",
    "AutoAttack",
    "difference, points",
] + ["adversarial images that fool PyTorch too"]


def table(folder: str, _) -> str:
    """Markdown table of the records robustness/outside/*.json beside `folder`, a dataset's."""
    rows = [HEADS]
    pattern = os.path.join(os.path.dirname(folder), "robustness", "outside", "*.json")
    for path in sorted(glob.glob(pattern)):
        record = shapes.read(path, shapes.OUTSIDE)
        folders = sorted({os.path.dirname(member["path"]) for member in record["members"]})
        bits = [
            str(Precision(member["weight_bits"], member["activation_bits"]))
            for member in record["members"]
        ]
        found = record["transferred"]
        cells = [", ".join(escape.code(folder, cell=True) for folder in folders)]
        cells += [", ".join(bits), NORMS[record["norm"]]]
        cells += [f"{record['eps']:.4g}", f"{record['images']:,}"]
        cells += [percent(record["suite_accuracy"]), percent(record["autoattack"]["accuracy"])]
        cells += [f"{record['stronger_by']:+.2f}", f"{found['adversarial']} of {found['images']}"]
        rows.append(cells)
    return pipe_table(rows, "lll")
