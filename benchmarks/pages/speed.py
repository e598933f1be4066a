"""Speed (`python -m benchmarks.speed`, `throughput`, `step_profile`) as tables and a figure."""

import numpy as np

from benchmarks.pages import figures, records
from benchmarks.pages.inference import MISSING
from benchmarks.pages.shapes import ACCOUNT, COMPARISON, THROUGHPUT
from empir.errors import EmpirError
from empir.experiments import TABLE_ATTACKS, Experiment
from empir.report import shapes
from empir.report.tables import HEADS, pipe_table

SYSTEMS = {
    "empir": "this project",
    "cleverhans": "CleverHans 2.1.0",
    "foolbox": "Foolbox, PyTorch",
    "torchattacks": "torchattacks, PyTorch",
    "compiled": "PyTorch, compiled",
}
#: The systems in PyTorch; the fastest of them is compared with this project.
PEERS = ("foolbox", "torchattacks", "compiled")
#: Name of a model in the record -> its title.
MODELS = {
    "mnist-baseline": "MNIST, baseline",
    "mnist-ensemble": "MNIST, ensemble",
    "cifar10-ensemble": "CIFAR-10, ensemble",
}
#: Name of an attack in the record -> its title.
ATTACK_TITLES = {
    "fgsm": "FGSM",
    "bim": "BIM-40",
    "pgd": "PGD-40",
    "cw": "CW-50",
    "cw-9": "CW-50, 9 search steps",
}
#: A rate in the record -> what was computed. Records of before convolutions have the first two.
RATES = {
    "gemm_gflops": "matrix products, TensorFlow",
    "pytorch_gemm_gflops": "matrix products, PyTorch",
    "pytorch_convolution_gflops": "convolutions, PyTorch",
    "onnxruntime_convolution_gflops": "convolutions, ONNX Runtime",
}
BATCH = 100
#: The operations that do the arithmetic of a network, as `account-DATASET.json` names them.
PRODUCTS = ("convolutions, forward", "convolutions, input gradient", "matrix products")
NOT_MEASURED = "-"
BOUNDS = (
    "convolutions and matrix products, share of a step",
    "GFLOP/s of the whole attack",
    "GFLOP/s within these operations",
    "best measured GFLOP/s",
    "measured in",
    "fastest PyTorch / this",
    "the same, were all else free",
    "CleverHans / this",
    "the same for CleverHans, were all else free",
)


def load(folder: str) -> dict:
    """The comparison kept beside a dataset's folder of results; empty if there is none."""
    record = records.read(folder, "benchmark/comparison.json", COMPARISON)
    return {} if record is None else record


def cell(record: dict, model: str, attack: str, batch_size: int) -> dict:
    """The systems' measurements of an attack; empty if it was not measured."""
    return record.get("attacks", {}).get(f"{model}/{attack}/{batch_size}", {})


def systems(record: dict) -> dict:
    """Name -> title of the systems that a record tells of; of an empty one, of all `SYSTEMS`."""
    cells = record.get("attacks", {}).values()
    told = {name for cell in cells for name in cell.get("systems", {})}
    return {name: title for name, title in SYSTEMS.items() if name in told or not told}


def attack_steps(parameters: dict) -> int:
    """Gradients that an attack takes of each image, by its parameters."""
    steps = parameters.get("nb_iter", parameters.get("max_iterations", 1))
    return steps * parameters.get("binary_search_steps", 1)


def did_all_steps(measured: dict, system: str) -> bool:
    """Whether a system evaluated the network as often as the parameters ask."""
    result = measured["systems"].get(system, {})
    if "seconds" not in result:
        return False
    steps = attack_steps(measured["parameters"])
    return result["forward_passes"] is None or result["forward_passes"] >= steps


def ratios(measured: dict, system: str):
    """How many times as long as this project a system takes, turn by turn."""
    systems = measured["systems"]
    return _quotients(systems, system, systems[system]["seconds"], systems["empir"]["seconds"])


def _quotients(measured, system, one, other):
    """The one over the other, turn by turn, of a system and of this project, whichever is which."""
    if len(one) != len(other):
        where = getattr(measured, "where", "the comparison")
        raise EmpirError(
            f"{where}: {system} has another number of turns than empir: {shapes.REMEDY}"
        )
    return np.array(one) / np.array(other)


def best_rate(measured: dict) -> tuple:
    """The largest of the `RATES` that were measured beside an attack, GFLOP/s, and its title."""
    known = {title: measured[name] for name, title in RATES.items() if name in measured}
    if not known:
        measured["gemm_gflops"]  # an error that names the file
    return max((float(np.median(rates)), title) for title, rates in known.items())


def fastest_peer(measured: dict):
    """The system in PyTorch that takes least among those that did all steps; None if none did."""
    peers = [name for name in PEERS if did_all_steps(measured, name)]
    return min(peers, key=lambda name: np.median(ratios(measured, name)), default=None)


def _ratio(measured, system):
    if not measured or system is None or "seconds" not in measured["systems"].get(system, {}):
        return NOT_MEASURED
    found = ratios(measured, system)
    middle = f"{np.median(found):.2f}"
    return middle if len(found) == 1 else f"{middle} ({found.min():.2f}-{found.max():.2f})"


def _first_call(measured, system):
    """Seconds of building the graph and of the first call."""
    result = measured["systems"][system]
    return result["prepare"] + result["first"]


def _time(measured, system, batch_size):
    result = measured["systems"].get(system, {})
    if "seconds" not in result:
        return NOT_MEASURED
    star = "" if did_all_steps(measured, system) else "\\*"
    return f"{1e3 * np.median(result['seconds']) / batch_size:.3g}{star}"


def attacks_markdown(folder: str, _) -> str:
    """`attacks_table` of the comparison beside a dataset's results."""
    return attacks_table(load(folder))


def attacks_table(record: dict) -> str:
    """Milliseconds per image of each system in batches of 100, and this project's advantage."""
    shown = systems(record)
    heads = ["model, attack"] + [f"{title}, ms" for title in shown.values()]
    heads += ["fastest PyTorch / this", "CleverHans / this", "the same, first call"]
    heads += ["of best measured rate", "memory, MB"]
    rows = []
    for model, of_model in MODELS.items():
        for attack, title in ATTACK_TITLES.items():
            measured = cell(record, model, attack, BATCH)
            if "systems" not in measured:
                continue
            own = measured["systems"]["empir"]
            rate = measured["gflop"] / np.median(own["seconds"])
            row = [f"{of_model}, {title}"]
            row += [_time(measured, system, BATCH) for system in shown]
            row += [_ratio(measured, fastest_peer(measured)), _ratio(measured, "cleverhans")]
            first = [_first_call(measured, system) for system in ("cleverhans", "empir")]
            row += [f"{first[0] / first[1]:.2f}"]
            row += [f"{rate / best_rate(measured)[0]:.2f}"]
            row += [f"{own['peak_memory_mb']:.0f}" if own["peak_memory_mb"] else NOT_MEASURED]
            rows.append(row)
    return pipe_table([heads] + rows)


def batches_markdown(folder: str, _) -> str:
    """`batches_table` of the comparison beside a dataset's results."""
    return batches_table(load(folder))


def batches_table(record: dict) -> str:
    """The advantage over the fastest system in PyTorch, and over CleverHans, by batch size."""
    sizes = sorted({int(key.rsplit("/", 1)[1]) for key in record.get("attacks", {})})
    heads = ["model, attack"] + [f"batch {size}" for size in sizes]
    rows = []
    for model, of_model in MODELS.items():
        for attack, title in ATTACK_TITLES.items():
            row = [f"{of_model}, {title}"]
            for size in sizes:
                measured = cell(record, model, attack, size)
                if "systems" not in measured:
                    row.append(NOT_MEASURED)
                    continue
                pair = []
                for system in (fastest_peer(measured), "cleverhans"):
                    pair.append(f"{np.median(ratios(measured, system)):.2f}" if system else "-")
                row.append(" / ".join(pair))
            rows.append(row)
    return pipe_table([heads] + rows)


def training_markdown(folder: str, _) -> str:
    """Training images per second of each kind of member."""
    rows = []
    for key, rates in load(folder).get("training", {}).items():
        own = np.array(rates["empir"])
        row = [key.replace("/", ", "), f"{np.median(own):.0f}"]
        for system in ("cleverhans", "foolbox"):
            other = np.array(rates[system])
            advantage = np.median(_quotients(rates, system, rates["empir"], rates[system]))
            row += [f"{np.median(other):.0f}", f"{advantage:.2f}"]
        rows.append(row)
    heads = ["member", "this project", "plain Keras", "this / Keras", "PyTorch", "this / PyTorch"]
    return pipe_table([heads] + rows)


def startup_markdown(folder: str, _) -> str:
    """Seconds of `examples/mnist_attack.py --attack=fgsm --nb_samples=100` and of its parts."""
    found = load(folder).get("startup", {"parts": {}, "total": 0.0})
    rows = [[part, f"{seconds:.2f}"] for part, seconds in found["parts"].items()]
    return pipe_table([["part", "s"]] + rows + [["whole", f"{found['total']:.2f}"]])


def load_account(folder: str, dataset: str) -> dict:
    """The account of a dataset's ensemble, likewise; empty if there is none.

    That of a single image is named as of a dataset with "-one" after its name.
    """
    record = records.read(folder, f"benchmark/account-{dataset}.json", ACCOUNT)
    return {} if record is None else record


def operations(record: dict) -> dict:
    """Kind of operation -> milliseconds per step by layers and by the engine; the largest first.

    Args:
      record: a profile of a step, as `load_account` reads it.
    """
    layers, engine = (record[name]["milliseconds"] for name in ("layers", "engine"))
    kinds = sorted(set(layers) | set(engine), key=lambda kind: -layers.get(kind, 0))
    return {kind: (layers.get(kind, 0.0), engine.get(kind, 0.0)) for kind in kinds}


def account_markdown(folder: str, experiment) -> str:
    """Milliseconds of one step of BIM on the ensemble, by kind of operation."""
    return _account_table(load_account(folder, experiment.dataset))


def one_image_markdown(folder: str, experiment) -> str:
    """The same of a single image."""
    return _account_table(load_account(folder, experiment.dataset + "-one"))


def _account_table(record):
    if not record:
        return MISSING
    digits = 1 if record["batch_size"] > 1 else 2
    rows = [
        [kind, f"{layers:.{digits}f}", f"{engine:.{digits}f}"]
        for kind, (layers, engine) in operations(record).items()
    ]
    whole = [f"{record[how]['step']:.{digits}f}" for how in ("layers", "engine")]
    heads = [f"ms per step, batch {record['batch_size']}", "layer by layer", "engine"]
    return pipe_table([heads] + rows + [["whole step, not traced"] + whole])


def bounds_markdown(folder: str, _) -> str:
    """How fast BIM on each ensemble could be, if only its convolutions took time."""
    record = load(folder)
    columns = {}
    for dataset in ("mnist", "cifar10"):
        model = dataset + "-ensemble"
        measured, found = cell(record, model, "bim", BATCH), load_account(folder, dataset)
        spent = found["engine"]["milliseconds"] if found and "systems" in measured else {}
        if any(spent.get(kind) for kind in PRODUCTS):
            columns[MODELS[model]] = _bounds(measured, spent)
    rows = [[name] + [column[name] for column in columns.values()] for name in BOUNDS]
    return pipe_table([[f"BIM-40, batch {BATCH}"] + list(columns)] + (rows if columns else []))


def _bounds(measured, milliseconds):
    share = sum(milliseconds.get(kind, 0) for kind in PRODUCTS) / sum(milliseconds.values())
    rate = measured["gflop"] / np.median(measured["systems"]["empir"]["seconds"])
    best, computed = best_rate(measured)
    cells = [f"{100 * share:.0f} %"]
    cells += [f"{value:.0f}" for value in (rate, rate / share, best)] + [computed]
    for system in (fastest_peer(measured), "cleverhans"):
        ratio = np.median(ratios(measured, system))
        cells += [f"{ratio:.2f}", f"{ratio / share:.2f}"]
    return dict(zip(BOUNDS, cells))


def throughput_markdown(folder: str, experiment: Experiment) -> str:
    """Markdown table of what `python -m benchmarks.throughput` measured, beside `folder`."""
    heads = ["attack", "batch", "images/s", "minutes per 1,000 images", "GFLOP/s"]
    rows = [heads + ["matrix products, GFLOP/s", "memory, MB"]]
    for attack in TABLE_ATTACKS:
        name = f"benchmark/{experiment.dataset}-{attack}.json"
        record = records.read(folder, name, THROUGHPUT)
        if record is not None:
            rate = record["images_per_second"]
            cells = ["%d" % record["batch_size"], "%.2f" % rate, "%.1f" % (1000 / rate / 60)]
            cells += ["%.0f" % record[key] for key in ("gflops", "gemm_gflops", "peak_memory_mb")]
            rows.append([HEADS[attack], *cells])
    return pipe_table(rows)


def times(record: dict, model: str) -> dict:
    """Milliseconds per image in batches of 100: system -> one for each attack, in order.

    NaN stands where an attack was not measured, or the system did not do all of its steps.
    """
    found = {}
    for system in systems(record):
        cells = [cell(record, model, attack, BATCH) for attack in ATTACK_TITLES]
        done = ["systems" in measured and did_all_steps(measured, system) for measured in cells]
        found[system] = [
            1e3 * np.median(measured["systems"][system]["seconds"]) / BATCH if ok else np.nan
            for measured, ok in zip(cells, done)
        ]
    return found


def draw(folder: str):
    """The figure of `times`, a panel per model, of the comparison beside a dataset's results."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    record = load(folder)
    figure = Figure(figsize=(10, 3.6))
    places = np.arange(len(ATTACK_TITLES))
    all_axes = figure.subplots(1, len(MODELS), sharey=True)
    titles = systems(record)
    width = 0.8 / max(len(titles), 1)
    drawn = [list(times(record, model).values()) for model in MODELS]
    known = [value for value in np.ravel(drawn) if np.isfinite(value)] or [1.0]
    for axes, model, columns in zip(all_axes, MODELS.values(), drawn):
        axes.set_yscale("log")
        axes.set_ylim(min(known) / 2, 2 * max(known))
        for index, (title, column) in enumerate(zip(titles.values(), columns)):
            left = width * (index - (len(titles) - 1) / 2)
            axes.bar(places + left, column, width, label=title)
        axes.set_title(model)
        axes.set_xticks(places)
        axes.set_xticklabels(
            [title.replace(", ", ",\n") for title in ATTACK_TITLES.values()], fontsize=7
        )
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.grid(axis="y", alpha=0.5)
        axes.grid(axis="y", which="minor", alpha=0.15)
        axes.set_axisbelow(True)
    all_axes[0].set_ylabel(f"ms per image, batches of {BATCH}")
    all_axes[0].legend(fontsize=7, loc="upper left")
    figure.tight_layout()
    return figure


def plot(folder: str, path: str):
    """Write the figure of `draw` as an SVG file, the same bytes for the same record."""
    figures.write(path, lambda: draw(folder), {"font.size": 9})
