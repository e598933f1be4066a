"""What ensembles cost (records of `empir cost`), for a terminal."""

from typing import List

from empir.report.results import paper_overhead
from empir.report.tables import aligned

#: Heads of the columns of a terminal's table, by the name of the number in the record.
HEADS = {
    "parameters": "parameters",
    "quantized_parameters": "quantized",
    "weight_bytes": "weight bytes",
    "multiplications": "multiplications",
    "bit_operations": "bit operations (A)",
    "scaled_multiplications": "by wider operand (B)",
}
#: What the paper's figure may be about; how it was counted is not known.
CLAIMED = ("weight_bytes", "bit_operations", "scaled_multiplications")
LAYER_COLUMNS = (
    "kind",
    "output_shape",
    "parameters",
    "weight_bits",
    "activation_bits",
    "multiplications",
    "weight_bytes",
)
LAYER_SUMS = ("parameters", "multiplications", "weight_bytes")


def terminal(ensemble: dict) -> str:
    """A record of `cost.ensemble_cost` as aligned tables: the ensemble's, and its layers'.

    Layers are there if the record has them, once for each precision.
    """
    layers = {m["precision"]: m["layers"] for m in ensemble["members"] if "layers" in m}
    titles = (("%s %s" % (ensemble["architecture"], p), rows) for p, rows in layers.items())
    return "\n\n".join([_ensemble(ensemble)] + [_layers(title, rows) for title, rows in titles])


def _ensemble(ensemble):
    rows = [["%(architecture)s, %(nb_filters)d filters" % ensemble] + list(HEADS.values())]
    entries = [(member["name"], member) for member in ensemble["members"]]
    entries.append(("ensemble", ensemble["ensemble"]))
    entries.append(("one full-precision network", ensemble["full_precision"]))
    rows += [[title] + [_cell(cost[name]) for name in HEADS] for title, cost in entries]
    percent = ensemble["overhead_percent"]
    cells = ["%+.1f" % percent[name] if name in percent else "" for name in HEADS]
    rows.append(["overhead of the ensemble, %"] + cells)
    claim = "< %g" % paper_overhead()
    rows.append(["the paper's claim, %"] + [claim if name in CLAIMED else "" for name in HEADS])
    return "\n".join(aligned(rows))


def _layers(title: str, layers: List[dict]):
    rows = [[title] + [column.replace("_", " ") for column in LAYER_COLUMNS]]
    rows += [[row["layer"]] + [_cell(row[column]) for column in LAYER_COLUMNS] for row in layers]
    sums = {column: _cell(sum(row[column] for row in layers)) for column in LAYER_SUMS}
    rows.append(["all layers"] + [sums.get(column, "") for column in LAYER_COLUMNS])
    return "\n".join(aligned(rows))


def _cell(value):
    """A number, a shape, a word, or a dash for none."""
    if not value:
        return "-"
    if isinstance(value, list):
        return "x".join("%d" % size for size in value)
    if isinstance(value, float):
        return "{:,.0f}".format(value)
    return value if isinstance(value, str) else "{:,d}".format(value)
