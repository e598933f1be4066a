"""Reports of `python -m empir.robustness`, for a terminal and as Markdown."""

from empir.report.tables import aligned

HEADS = ("attack", "climbs", "images", "broken", "its accuracy, %", "worst case so far, %", "s")


def _rows(record):
    """A row of cells per trial, the clean images' first."""
    count = record["num_examples"]
    yield ["clean", "", str(count), "", "%.2f" % (100 * record["clean_accuracy"]), "", ""]
    for trial in record["trials"]:
        words = [trial["goal"]] if trial["goal"] else []
        if trial["rounds"] > 1:
            words.append("%d %s" % (trial["rounds"], "classes" if trial["targeted"] else "starts"))
        alone = "" if trial["accuracy"] is None else "%.2f" % (100 * trial["accuracy"])
        name = "%s, %d steps" % (trial["name"], trial["steps"])
        cells = [name if trial["steps"] > 1 else trial["name"], ", ".join(words)]
        cells += ["%d" % trial["attacked"], "%d" % trial["broken"], alone]
        yield cells + ["%.2f" % (100 * trial["worst_case"]), "%.0f" % trial["seconds"]]


def _verdict(record):
    low, high = (100 * limit for limit in record["interval"])
    return (
        "%s, %d members, %s: worst case %.2f %% (95 %% interval %.2f to %.2f) of %d images at %s "
        "radius %g; clean %.2f %%"
        % (
            record["architecture"],
            len(record["members"]),
            record["combine"],
            100 * record["worst_case_accuracy"],
            low,
            high,
            record["num_examples"],
            {"linf": "L-infinity", "l2": "L2"}[record["norm"]],
            record["eps"],
            100 * record["clean_accuracy"],
        )
    )


def terminal(record: dict) -> str:
    """The record of `robustness.suite.run` as an aligned table."""
    return "\n".join(aligned([list(HEADS)] + list(_rows(record))) + ["", _verdict(record)])


def markdown(record: dict) -> str:
    """The record as a Markdown page."""
    lines = ["# Robustness", "", _verdict(record) + ".", ""]
    lines += ["| %s |" % " | ".join(HEADS), "| --- | --- |" + " ---: |" * (len(HEADS) - 2)]
    lines += ["| %s |" % " | ".join(row) for row in _rows(record)]
    lines += [
        "",
        "Attacks without an accuracy of their own saw only the images that all before them",
    ]
    lines += ["left correct. Command: `%s`." % record["command"]]
    return "\n".join(lines)
