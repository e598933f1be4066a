"""The figure of clean and adversarial images: what it shows, its file, resumed runs."""

import os
import sys

import matplotlib
import numpy as np
import pytest
from matplotlib import image as matplotlib_image
from matplotlib import pyplot

from empir.data import imagenet
from empir.errors import EmpirError
from empir.report import pairs
from empir.report.pairs import Pairs
from tests.support.released import save_members
from tests.support.scripts import MNIST_SCRIPT, RESULT, run_script

ARROW = "\N{RIGHTWARDS ARROW}"
INFINITY = "\N{INFINITY}"


def examples(count=3, shape=(28, 28, 1), eps=0.25, **changes):
    """Random untargeted pairs; the first adversarial image is the clean one."""
    random = np.random.RandomState(0)
    clean = random.uniform(size=(count,) + shape).astype(np.float32)
    change = eps * random.choice([-1, 1], size=clean.shape)
    change[0] = 0
    adversarial = np.clip(clean + change, 0, 1).astype(np.float32)
    plain = dict(
        clean=clean,
        adversarial=adversarial,
        image=np.arange(count),
        label=np.array([7, 2, 1])[:count],
        clean_decision=np.array([7, 2, 8])[:count],
        decision=np.array([7, 3, 1])[:count],
        l2=np.array([0, 1.23456, 12.3456])[:count],
        linf=np.abs(adversarial - clean).reshape(count, -1).max(axis=1),
        title="FGSM on MNIST",
    )
    return Pairs(**dict(plain, **changes))


def targeted(labels=(7, 0), targets=10, shape=(28, 28, 1), **changes):
    """Random targeted pairs of every target but the label; targets below 5 are reached."""
    image, target = np.array(
        [(i, t) for i, label in enumerate(labels) for t in range(targets) if t != label]
    ).T
    label = np.array(labels)[image]
    random = np.random.RandomState(0)
    plain = dict(
        clean=random.uniform(size=(len(labels),) + shape).astype(np.float32)[image],
        adversarial=random.uniform(size=image.shape + shape).astype(np.float32),
        image=image,
        label=label,
        clean_decision=label,
        decision=np.where(target < 5, target, label),
        l2=target + 0.5,
        linf=np.full(len(image), 0.3),
        target=target,
        targeted=True,
        title="CW on MNIST",
    )
    return Pairs(**dict(plain, **changes))


def captions(figure):
    """The caption of each image."""
    return [axes.get_title() for axes in figure.axes]


def pictures(figure):
    """The array of each image."""
    return [np.asarray(axes.images[0].get_array()) for axes in figure.axes]


def marked(figure):
    """Which images have a red caption."""
    return [axes.title.get_color() == pairs.MARKED for axes in figure.axes]


def test_an_untargeted_attack_is_a_row_per_image_clean_adversarial_difference():
    own = examples()
    figure = pairs.draw(own)
    assert [text.get_text() for text in figure.texts] == [
        "FGSM on MNIST. %s: predicted class; red: misclassified" % ARROW,
        "clean",
        "adversarial",
        "difference",
    ]
    assert captions(figure) == [
        "label 7 %s 7" % ARROW,
        "%s 7, L2 0, L%s 0" % (ARROW, INFINITY),
        "grey is 0, scale \N{PLUS-MINUS SIGN}0",
        "label 2 %s 2" % ARROW,
        "%s 3, L2 1.23, L%s 0.25" % (ARROW, INFINITY),
        "grey is 0, scale \N{PLUS-MINUS SIGN}0.25",
        "label 1 %s 8" % ARROW,
        "%s 1, L2 12.3, L%s 0.25" % (ARROW, INFINITY),
        "grey is 0, scale \N{PLUS-MINUS SIGN}0.25",
    ]
    assert marked(figure) == [False, False, False, False, True, False, True, False, False]
    shown = pictures(figure)
    for row in range(3):
        np.testing.assert_array_equal(shown[3 * row], own.clean[row, ..., 0])
        np.testing.assert_array_equal(shown[3 * row + 1], own.adversarial[row, ..., 0])
    for axes in figure.axes:  # not stretched to the values that an image happens to have
        assert axes.images[0].get_clim() == (0, 1) and axes.images[0].get_cmap().name == "gray"


def test_jsma_aims_at_a_class_without_being_a_grid():
    figure = pairs.draw(examples(target=np.array([5, 3, 0])))
    assert captions(figure)[4] == "target 3 %s 3, L2 1.23, L%s 0.25" % (ARROW, INFINITY)
    assert len(figure.axes) == 9


def test_the_difference_is_symmetric_about_grey_and_scaled_to_its_largest():
    clean = np.full((2, 2, 1), 0.5, np.float32)
    change = np.array([[0.1, -0.2], [0.0, 0.05]])[..., np.newaxis]
    picture, scale = pairs.difference(clean, clean + change)
    assert scale == pytest.approx(0.2)
    np.testing.assert_allclose(picture, [[0.75, 0.0], [0.5, 0.625]])
    picture, scale = pairs.difference(clean, clean)
    assert scale == 0 and (picture == 0.5).all()


def test_imagenets_range_becomes_0_to_1_and_its_channels_red_green_blue():
    low, high = imagenet.CLIP_RANGE
    colours = np.array([[[low, high, 0.25]]])  # blue, green, red
    shown = pairs.visible(colours, imagenet.CLIP_RANGE, "BGR")
    np.testing.assert_allclose(shown, [[[0.5, 1.0, 0.0]]])
    own = examples(shape=(8, 8, 3), clip_range=(-1.0, 3.0), channels="BGR")
    figure = pairs.draw(own)
    clean, adversarial, change = pictures(figure)[3:6]
    np.testing.assert_allclose(clean, (own.clean[1, ..., ::-1] + 1) / 4)
    np.testing.assert_allclose(adversarial, (own.adversarial[1, ..., ::-1] + 1) / 4)
    expected = 0.5 + (own.adversarial[1] - own.clean[1])[..., ::-1] / (2 * own.linf[1])
    np.testing.assert_allclose(change, expected, atol=1e-6)


def test_images_in_red_green_blue_stay_so():
    own = examples(shape=(32, 32, 3))
    np.testing.assert_array_equal(pictures(pairs.draw(own))[3], own.clean[1])


def cells(figure):
    """(column, caption, picture) of each image below each other, by rows from the top."""
    lefts = sorted({round(axes.get_position().x0, 6) for axes in figure.axes})
    tops = sorted({round(-axes.get_position().y1, 6) for axes in figure.axes})
    return {
        (
            tops.index(round(-axes.get_position().y1, 6)),
            lefts.index(round(axes.get_position().x0, 6)),
        ): axes
        for axes in figure.axes
    }


def test_a_targeted_attack_is_a_row_per_image_and_a_column_per_target():
    own = targeted()
    figure = pairs.draw(own)
    heads = [text.get_text() for text in figure.texts][1:]
    assert heads == ["clean"] + ["target %d" % target for target in range(10)]
    grid = cells(figure)
    assert set(grid) == {(r, c) for r in (0, 1) for c in range(11)} - {(0, 1 + 7), (1, 1 + 0)}
    assert [grid[row, 0].get_title() for row in (0, 1)] == [
        "label 7 %s 7" % ARROW,
        "label 0 %s 0" % ARROW,
    ]
    for example, (image, target) in enumerate(zip(own.image, own.target)):
        axes = grid[image, 1 + target]
        shown = np.asarray(axes.images[0].get_array())
        np.testing.assert_array_equal(shown, own.adversarial[example, ..., 0])
        decision = target if target < 5 else own.label[example]
        caption = "%s %d, L2 %.3g, L%s 0.3" % (ARROW, decision, target + 0.5, INFINITY)
        assert axes.get_title() == caption
        assert (axes.title.get_color() == pairs.MARKED) == (target < 5)


WIDEST = dict(l2=np.full(3, 1.23e-5), linf=np.full(3, 1.23e-5))


@pytest.mark.parametrize(
    "own",
    [
        examples(**WIDEST),
        examples(target=np.array([5, 3, 0]), l2=np.full(3, 0.123), linf=np.full(3, 0.123)),
        examples(
            shape=(224, 224, 3), decision=np.full(3, 999), label=np.full(3, 999), eps=1e-5, **WIDEST
        ),
        examples(count=1),
        targeted(),
        targeted(linf=np.full(18, 0.00123), l2=np.full(18, 0.00123)),
        targeted(labels=(7,), targets=9, title="JSMA on ImageNet"),
    ],
    ids="untargeted jsma imagenet one-image targeted wide-grid one-row".split(),
)
def test_no_text_overlaps_another_or_leaves_the_figure(own):
    figure = pairs.draw(own)
    renderer = figure.canvas.get_renderer()
    texts = figure.texts + [axes.title for axes in figure.axes]
    boxes = [text.get_window_extent(renderer) for text in texts]
    boxes += [axes.get_window_extent(renderer) for axes in figure.axes]
    width, height = figure.canvas.get_width_height()
    for number, box in enumerate(boxes):
        assert 0 <= box.x0 and box.x1 <= width and 0 <= box.y0 and box.y1 <= height
        assert not any(box.overlaps(other) for other in boxes[:number])


@pytest.mark.slow
@pytest.mark.parametrize("side", [28, 32, 224])
def test_every_pixel_is_a_square_of_whole_pixels(side, tmp_path):
    own = examples(shape=(side, side, 1))
    path = str(tmp_path / "figure.png")
    pairs.save(own, path)
    pixels = matplotlib_image.imread(path)[..., 0]
    box = pairs.draw(own).axes[1].get_window_extent()
    zoom = box.width / side
    assert zoom == pytest.approx(-(-pairs.LEAST_SIDE // side))
    zoom = int(round(zoom))
    left, top = int(round(box.x0)), len(pixels) - int(round(box.y1))
    centers = zoom // 2 + zoom * np.arange(1, side - 1)  # the frame is drawn over the others
    drawn = pixels[top + centers][:, left + centers]
    # The colour map has 256 greys, and so has the file.
    np.testing.assert_allclose(drawn, own.adversarial[0, 1:-1, 1:-1, 0], atol=2 / 255)


@pytest.mark.slow
def test_the_file_is_the_same_bytes_every_time_and_written_whole(tmp_path, monkeypatch):
    path = tmp_path / "figure.png"
    pairs.save(examples(), str(path))
    first = path.read_bytes()
    assert first.startswith(b"\x89PNG") and b"Software" not in first and b"Date" not in first
    pairs.save(examples(), str(path))
    assert path.read_bytes() == first
    assert os.listdir(str(tmp_path)) == ["figure.png"]

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        pairs.save(targeted(), str(path))
    assert path.read_bytes() == first


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "figure.png").mkdir()
    with pytest.raises(EmpirError, match="cannot write .*figure.png"):
        pairs.save(examples(), str(tmp_path / "figure.png"))


def test_a_window_opens_only_with_an_interactive_backend(tmp_path, monkeypatch):
    path = str(tmp_path / "figure.png")
    pairs.save(examples(), path)
    shown = []
    monkeypatch.setattr(pyplot, "show", lambda: shown.append(pyplot.gcf().axes[0].images[0]))
    monkeypatch.setattr(matplotlib, "get_backend", lambda: "agg")
    pairs.show(path)
    assert shown == []
    monkeypatch.setattr(matplotlib, "get_backend", lambda: "TkAgg")
    pairs.show(path)
    (image,) = shown
    np.testing.assert_array_equal(image.get_array(), matplotlib_image.imread(path))
    assert pyplot.get_fignums() == []


def test_a_display_that_fails_is_no_error(tmp_path, monkeypatch):
    def fail(**_):
        raise RuntimeError("no display name")

    monkeypatch.setattr(matplotlib, "get_backend", lambda: "TkAgg")
    monkeypatch.setattr(pyplot, "figure", fail)
    pairs.save(examples(), str(tmp_path / "figure.png"))
    pairs.show(str(tmp_path / "figure.png"))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A folder with the members of an ensemble."""
    folder = tmp_path_factory.mktemp("workspace")
    save_members(str(folder))
    return folder


@pytest.fixture
def attack(workspace, monkeypatch, empir_command):
    """Attack MNIST in the workspace on the embedded sample, without a display.

    In a process the ensemble is attacked, in this one a member.
    """
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setenv("HOME", str(workspace))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("MPLCONFIGDIR", str(workspace / "matplotlib"))  # fonts are looked up once
    ensemble = (
        "--wbits=2 --abits=4 --wbits2=2 --abits2=4 --ensembleThree --model_path1=model1 "
        "--model_path2=model2 --model_path3=model3 "
    )

    def run(more, in_a_process=False):
        more = "--nb_filters=4 --nb_samples=12 --attack=fgsm " + more
        if in_a_process:
            process = run_script(sys.executable, MNIST_SCRIPT, ensemble + more, workspace)
        else:
            line = "attack --dataset=mnist --model_path=model3 " + more
            process = empir_command(line, workspace)
        assert process.returncode == 0, process.stderr
        return process

    return run


def rows_and_columns(path):
    """How many images stand below and beside each other in a figure's file."""
    height, width = matplotlib_image.imread(str(path)).shape[:2]
    side = 28 * 6
    rows = (height - pairs.TITLE - pairs.GAP) / (side + pairs.CAPTION)
    return rows, (width - pairs.GAP) / (side + pairs.GAP)


@pytest.mark.slow
@pytest.mark.parametrize(
    "more, shape, in_a_process", [("", (10, 3), True), ("--targeted ", (10, 11), False)]
)
def test_the_script_draws_and_says_where(attack, workspace, monkeypatch, more, shape, in_a_process):
    # A backend that the user chose, and that cannot work here, is no error of a new process.
    monkeypatch.setenv("MPLBACKEND", "TkAgg")
    process = attack(more + "--viz_enabled", in_a_process)
    path = workspace / "mnist-fgsm.png"
    assert rows_and_columns(path) == shape
    path.unlink()
    lines = process.stdout.splitlines(True)
    assert RESULT.match("".join(lines[-3:])) and len(lines) == (4 if more else 3)
    assert process.stderr.count("mnist-fgsm.png shows the first images") == 1
    assert "Traceback" not in process.stderr


@pytest.mark.slow
def test_the_figure_of_a_kept_run_stands_beside_its_record(attack, workspace):
    first = attack("--viz_enabled --out=out")
    names = ["adversarial.png", "examples.npz", "images.npz", "result.json"]
    assert sorted(os.listdir(str(workspace / "out"))) == names
    assert not (workspace / "mnist-fgsm.png").exists()
    drawn = os.stat(str(workspace / "out" / "adversarial.png")).st_mtime_ns
    again = attack("--viz_enabled --out=out --resume")
    assert again.stdout == first.stdout
    for process in (first, again):
        assert "out/adversarial.png shows the first images" in process.stderr
    assert os.stat(str(workspace / "out" / "adversarial.png")).st_mtime_ns == drawn


@pytest.mark.slow
def test_a_run_that_was_finished_without_a_figure_says_so(attack, workspace):
    without = attack("--out=plain")
    assert "png" not in without.stderr
    resumed = attack("--viz_enabled --out=plain --resume")
    assert "--viz_enabled has no effect: plain was finished without it" in resumed.stderr
    assert resumed.stdout == without.stdout == attack("--viz_enabled").stdout
    kept = sorted(os.listdir(str(workspace / "plain")))
    assert kept == ["examples.npz", "images.npz", "result.json"]
