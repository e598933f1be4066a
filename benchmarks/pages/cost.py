"""The table of what ensembles cost by count, from the record of `empir cost`."""

import os

from benchmarks.pages.shapes import COST
from empir.report import shapes
from empir.report.cost import CLAIMED
from empir.report.results import paper_overhead
from empir.report.tables import pipe_table


def markdown(folder: str, experiment) -> str:
    """Markdown table of the overheads in cost.json beside `folder`, over all its ensembles."""
    heads = ["network", "members", "parameters of one", "of these quantized"]
    heads += ["memory of the weights", "bit operations (A)", "wider operand (B)"]
    rows = [heads]
    path = os.path.join(os.path.dirname(folder), "cost.json")
    for ensemble in shapes.read(path, COST)["ensembles"].values():
        members = ensemble["members"]
        quantized = max(member["quantized_parameters"] for member in members)
        rows.append(
            [
                ensemble["architecture"],
                ", ".join(member["precision"] for member in members),
                f"{ensemble['full_precision']['parameters']:,}",
                f"{quantized:,}" if quantized else "-",
                *("%+.1f %%" % ensemble["overhead_percent"][name] for name in CLAIMED),
            ]
        )
    rows.append(["the paper's claim", "", "", "", *["< %g %%" % paper_overhead()] * len(CLAIMED)])
    return pipe_table(rows, "ll")
