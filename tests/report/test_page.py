"""The HTML page of an evaluation: what it says, that it fetches nothing, how browsers show it."""

import base64
import html
import io
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import matplotlib
import numpy as np
import pytest
from PIL import Image

from empir.errors import EmpirError
from empir.evaluation.checks import CHECKS
from empir.report import checks
from empir.report.networks import precision
from empir.report.page import Shown, page
from tests.support.reported import NETWORK, RECORD, TRIAL, Parsed, record

CHROMIUM = shutil.which("chromium")
FLAGS = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync"
FLAGS += " --disable-background-networking --disable-component-update --enable-logging=stderr"


def misclassified(shape=(28, 28, 1), low=0.0, high=1.0, **changes):
    """An image of label 3, misclassified as 8 under an attack by the ensemble and one member."""
    random = np.random.RandomState(0)
    clean = random.uniform(low, high, shape).astype(np.float32)
    adversarial = random.uniform(low, high, shape).astype(np.float32)
    plain = Shown(17, 3, clean, 3, [3, 3], "apgd-ce", adversarial, 8, [8, 3])
    return replace(plain, **changes)


def correct(image):
    """The same image, if no attack had succeeded on it."""
    return Shown(image.row, image.label, image.clean, image.clean_decision, image.clean_members)


def pixels(image):
    """Array of the picture of an <img>."""
    kind, data = image[1]["src"].split(",")
    assert kind == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


PAGES = {
    "full": page(record(chance=0.1), [misclassified(), correct(misclassified())]),
    "least": page(record(outside=[], curves={}, verdicts=[], trials=[]), []),
    "colour": page(
        record(norm="l2", members=[NETWORK]),
        [misclassified((32, 32, 3), clean_members=[3], members=[8])],
        channels="BGR",
    ),
}


@pytest.mark.parametrize("name", PAGES)
def test_is_well_formed(name):
    parsed = Parsed(PAGES[name])
    assert parsed.problems == []
    assert parsed.all("html")[0][1]["lang"] == "en"
    assert parsed.texts("title")[0] and len(parsed.all("h1")) == 1
    assert all(element[1].get("scope") for element in parsed.all("th"))
    assert all(element[1].get("alt") for element in parsed.all("img"))
    ids = [element[1]["id"] for element in parsed.elements if "id" in element[1]]
    assert len(ids) == len(set(ids))
    # Every reference inside the page finds what it refers to.
    found = re.findall(r'(?:href="|url\()#([^")]*)', PAGES[name])
    named = " ".join(element[1].get("aria-labelledby", "") for element in parsed.elements).split()
    assert set(found + named) <= set(ids)


@pytest.mark.parametrize("name", PAGES)
def test_fetches_nothing_and_runs_nothing(name):
    text, parsed = PAGES[name], Parsed(PAGES[name])
    spaces = [key for _, attrs, _ in parsed.elements for key in attrs if key.startswith("xmlns")]
    assert len(re.findall(r"https?:", text)) == len(spaces)
    assert not re.findall(r"url\((?!#)|@import|<script|\bsrcset=|\bon\w+=", text)
    for _, attrs, _ in parsed.elements:
        assert attrs.get("src", "data:").startswith("data:")
        for key in ("href", "xlink:href"):
            assert re.match("#|data:", attrs.get(key, "#"))


def test_text_of_a_record_stays_text():
    nasty = '<script>alert("1")</script>&amp;"\''
    verdict = dict(name=nasty, title=nasty, passed=False, reason=nasty, see=nasty)
    changes = dict(
        members=[dict(NETWORK, path=nasty)], architecture=nasty, dataset=nasty, command=nasty
    )
    changes.update(verdicts=[verdict], versions={nasty: nasty}, combine=nasty, git_commit=nasty)
    changes["trials"] = [dict(TRIAL, name=nasty, goal=nasty)]
    parsed = Parsed(page(record(**changes), [misclassified(attack=nasty)]))
    assert parsed.problems == [] and not parsed.all("script")
    assert parsed.texts("code").count(nasty) >= 5
    assert nasty in parsed.texts("title")[0] and nasty in parsed.texts("li")[0]


def test_head_states_the_finding():
    parsed = Parsed(PAGES["full"])
    finding = parsed.texts("h1")[0].replace("\N{NO-BREAK SPACE}", " ")
    for part in ("0.34 %", "0.11 to 0.99 %", "99.12 %", "1,000 images", "L\N{INFINITY} radius 0.3"):
        assert part in finding
    assert "0.34 %" in parsed.texts("title")[0]
    assert "L\N{SUBSCRIPT TWO} radius 0.3" in Parsed(PAGES["colour"]).texts("h1")[0]


@pytest.mark.parametrize(
    "subset, told",
    [("stratified", "drawn at random with each class's share"), (None, "the first ones")],
)
def test_setting_says_how_the_images_were_chosen(subset, told):
    data = dict(RECORD["data"], subset=subset)
    setting = Parsed(page(record(data=data), [])).texts("section")[-1]
    assert "1,000 of mnist, split test, %s, sha256" % told in setting


@pytest.mark.slow
def test_same_record_gives_the_same_bytes(tmp_path):
    (tmp_path / "record.json").write_text(json.dumps(record()))
    code = (
        "import json, sys; from empir.report.page import page;"
        "sys.stdout.buffer.write(page(json.load(open(sys.argv[1])), []).encode('utf8'))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "record.json")]
    environment = dict(os.environ, PYTHONHASHSEED="7")
    assert subprocess.check_output(command, env=environment).decode("utf8") == page(record(), [])


@pytest.mark.slow
def test_neither_takes_nor_leaves_matplotlib_settings():
    with matplotlib.rc_context({"font.size": 31, "lines.linestyle": ":", "axes.grid": True}):
        before = dict(matplotlib.rcParams)
        assert (
            page(record(chance=0.1), [misclassified(), correct(misclassified())]) == PAGES["full"]
        )
        assert dict(matplotlib.rcParams) == before


def test_table_has_the_attacks_of_the_suite_and_the_controls():
    names = Parsed(PAGES["full"]).texts("th", scope="row")
    assert names[:4] == ["none", "apgd-ce", "square", "noise-far control, radius 0.9"]
    assert not any(name.startswith(("apgd-at-0.1", "apgd-100")) for name in names)


@pytest.mark.parametrize("last", [0.0034, 0.007])
def test_table_ends_with_the_worst_case(last):
    """The attacks of the curves count too, but have no rows of their own."""
    trials = [dict(TRIAL, worst_case=last), dict(TRIAL, part="steps", worst_case=0.0034)]
    parsed = Parsed(page(record(trials=trials, curves={}), []))
    rows = [row for row in parsed.texts("tr") if "0.34" in row]
    assert len(rows) == 1
    assert rows[0].startswith("apgd-ce" if last == 0.0034 else "attacks of the curves")


def test_failures_come_first_then_what_could_not_be_judged():
    parsed = Parsed(PAGES["full"])
    shown = [item.split(".")[0] for item in parsed.texts("li")]
    assert shown[0].startswith("\N{BALLOT X} failed: Gradients All 0")
    assert shown[1].startswith("? not judged: Starts One start")
    assert shown[2].startswith("\N{CHECK MARK} passed: Steps Level")
    assert [code for code in parsed.texts("code") if code.startswith("docs/")] == [
        "docs/r.md#c",
        "docs/r.md#b",
        "docs/r.md#a",
    ]


@pytest.mark.parametrize(
    "passed, told",
    [
        ((True, False), "1 of 2 checks failed"),
        ((True, None), "1 of 2 could not be judged"),
        ((True, True), "All 2 checks of the attacks passed"),
    ],
)
def test_head_tells_how_the_checks_ended(passed, told):
    verdicts = [dict(RECORD["verdicts"][0], passed=value) for value in passed]
    parsed = Parsed(page(record(verdicts=verdicts), []))
    assert told in parsed.texts("header")[0]


def test_checks_lead_to_what_they_mean():
    verdicts = [
        dict(
            name="seed", title="Seeds", passed=False, reason="All.", see="docs/robustness.md#seed"
        ),
        RECORD["verdicts"][0],  # of a name that nothing explains
    ]
    parsed = Parsed(page(record(verdicts=verdicts), []))
    (link,) = parsed.all("a", href="#check-seed")
    assert link[2].strip() == "docs/robustness.md#seed"
    (meaning,) = parsed.all("section", **{"aria-labelledby": "meaning"})
    text = " ".join(meaning[2].split())
    assert text.startswith("What the checks mean Seeds seed With another seed the result differs")
    assert "#check-a" not in page(record(verdicts=verdicts), [])
    assert "What the checks mean" not in PAGES["full"]


def test_every_check_is_explained():
    explained = checks.explanations()
    assert list(explained) == list(CHECKS)
    for paragraphs in explained.values():
        assert paragraphs and not re.search(r"`|\]\(|&lt;|http", "".join(paragraphs))


KERAS = dict(path="nets/mine <1>.h5", sha256="ab" * 32, keras=True)
KERAS.update(weight_bits=None, activation_bits=None)


@pytest.mark.parametrize(
    "paths, told",
    [
        (["nets/mine <1>.h5"], "mine <1>.h5"),
        (["a.h5", "nets/b.h5"], "a.h5, b.h5, 2 members"),
        (["x/a.h5", "y/a.h5"], "x/a.h5, y/a.h5, 2 members"),
        (["a.h5", "a.h5"], "a.h5 (1), a.h5 (2), 2 members"),
        ([None, None], "member 1, member 2, 2 members"),
    ],
)
def test_keras_models_are_called_by_their_files(paths, told):
    members = [dict(KERAS, path=path) for path in paths]
    parsed = Parsed(page(record(architecture="Keras", members=members), []))
    assert parsed.texts("p", **{"class": "above"}) == ["Robustness of %s, on mnist" % told]
    assert parsed.texts("title")[0].endswith(": %s, mnist" % told)


@pytest.mark.slow
def test_attacks_that_succeed_everywhere_are_not_called_weak():
    verdicts = [dict(RECORD["verdicts"][0], passed=False)]
    for worst, says in ((0.0, "All images are misclassified"), (0.01, "may be too weak")):
        parsed = Parsed(page(record(verdicts=verdicts, worst_case_accuracy=worst), []))
        assert says in parsed.texts("header")[0]


def test_networks_without_a_file_have_a_dash():
    members = [dict(path=None, sha256=None, weight_bits=None, activation_bits=None)]
    text = page(record(members=members), [])
    assert "None" not in text and text.count("<code>\N{EN DASH}</code>") == 2


@pytest.mark.parametrize("missing", RECORD["curves"])
@pytest.mark.parametrize("points", [None, []])
def test_a_missing_curve_has_no_figure(missing, points):
    curves = dict(RECORD["curves"], **{missing: points})
    if points is None:
        del curves[missing]
    labels = [svg[1]["aria-label"] for svg in Parsed(page(record(curves=curves), [])).all("svg")]
    every = [svg[1]["aria-label"] for svg in Parsed(PAGES["full"]).all("svg")]
    assert len(every) == 4 and len(labels) == 3 and set(labels) < set(every)


def test_curves_are_drawn_where_the_values_are():
    svg = PAGES["full"].split("<svg")[1].split("</svg>")[0]
    found = re.findall(r'<use xlink:href="[^"]*" x="([\d.]+)" y="([\d.]+)"', svg)
    x, y = np.array(found, float).T
    points = np.array(RECORD["curves"]["radius"])
    for places, values in ((x, points[:, 0]), (y, -points[:, 1])):
        scale = (places[-1] - places[0]) / (values[-1] - values[0])
        # Six decimals of about 300.
        np.testing.assert_allclose(places, places[0] + scale * (values - values[0]), atol=1e-4)
    assert ">evaluated<" in svg and ">chance<" in svg
    assert "L\N{INFINITY} radius, images in [0, 1]" in svg
    assert ">chance<" not in PAGES["colour"]


def test_a_long_curve_gives_some_of_its_numbers():
    table = Parsed(PAGES["full"]).texts("figure")[3]
    assert "0.01 0.33" in table and "3 100.00" in table and "0.02 0.67" not in table


def test_a_misclassified_image_stands_beside_its_adversarial_image():
    parsed = Parsed(PAGES["full"])
    image = misclassified()
    shown = [pixels(img) for img in parsed.all("img")]
    assert len(shown) == 4  # three of the misclassified image, one of the other
    for found, expected in zip(shown, (image.clean, image.adversarial)):
        assert np.array_equal(found, np.round(255 * expected[..., 0]))
    change = (image.adversarial.astype(float) - image.clean)[..., 0]
    scale = np.abs(change).max()
    # One grey level: the picture rounds.
    np.testing.assert_allclose(shown[2], 127.5 + 127.5 * change / scale, atol=1)
    card = parsed.texts("article")[0]
    assert (
        "Image 17, label 3 misclassified under apgd-ce" in card
        and "\N{PLUS-MINUS SIGN} 0.9" in card
    )
    assert "clean predicted 3" in card and "adversarial predicted 8 \N{BALLOT X} (wrong)" in card
    assert "a, w2a4 3 8 \N{BALLOT X} (wrong)" in card
    assert card.endswith("b, full precision 3 3")


def test_an_image_that_is_correct_under_every_attack_says_so():
    cards = Parsed(PAGES["full"]).texts("article")
    assert "correct under every attack" in cards[1] and "adversarial" not in cards[1]
    wrong = replace(correct(misclassified()), clean_decision=5)
    text = Parsed(page(record(), [wrong])).texts("article")[0]
    assert "misclassified without an attack" in text and "predicted 5 \N{BALLOT X} (wrong)" in text


def test_a_misclassified_image_without_its_adversarial_image_is_an_error():
    with pytest.raises(
        EmpirError, match="image 17 is misclassified under apgd-ce: its adversarial image"
    ):
        page(record(), [misclassified(adversarial=None)])


@pytest.mark.parametrize("channels", ["RGB", "BGR"])
def test_pictures_honour_range_and_order_of_channels(channels):
    image = misclassified((8, 6, 3), low=-2, high=3)
    parsed = Parsed(page(record(), [image], clip_range=(-2, 3), channels=channels))
    values = np.round(255 * (image.clean.astype(float) + 2) / 5)
    expected = values if channels == "RGB" else values[..., ::-1]
    first = parsed.all("img")[0]
    # One level: float32 pixels near the middle of two levels round either way.
    np.testing.assert_allclose(pixels(first), expected, atol=1)
    assert (first[1]["width"], first[1]["height"]) == ("6", "8")
    assert "[-2, 3]" in parsed.texts("section")[-1]


@pytest.mark.parametrize(
    "bits, told",
    [
        ((2, 4), "w2a4"),
        ((None, None), "full precision"),
        ((2, None), "w2a32"),
        (([None, 2, 2], [None, 4, 3]), "by layer fp, w2a4, w2a3"),
        (([2, 2], [4, 4]), "w2a4"),
        (([2, 3], 4), "by layer w2a4, w3a4"),
        (([None, None], [None, None]), "full precision"),
    ],
)
def test_precision_in_words(bits, told):
    member = dict(NETWORK, weight_bits=bits[0], activation_bits=bits[1])
    assert precision(member) == told
    setting = Parsed(page(record(members=[member]), [])).texts("section")[-1]
    assert "1 models/a %s %s" % (told, "ab" * 32) in setting


WRAPPER = """<!DOCTYPE html><body>%s<script>
addEventListener("load", () => {
  const found = [...document.querySelectorAll("iframe")].map((frame) => {
    const seen = frame.contentDocument, root = seen.documentElement;
    return {
      room: root.clientWidth,
      width: root.scrollWidth,
      images: seen.images.length,
      undecoded: [...seen.images].filter((image) => !image.naturalWidth).length,
      cut: [...seen.querySelectorAll(".suite .worst")].filter(
        (cell) => cell.getBoundingClientRect().right > root.clientWidth).length,
      drawn: [...seen.querySelectorAll("svg path")].filter(
        (path) => path.getBoundingClientRect().width > 0).length,
    };
  });
  document.body.innerHTML = "<pre>" + JSON.stringify(found) + "</pre>";
});
</script>"""


def look(text, folder):
    """What a browser makes of a page 360 and 1,200 pixels wide, and what it complains of.

    Every window's `room` is the width that it has for the page, `width` what the page takes.
    """
    frame = '<iframe style="width: %dpx; height: 800px; border: 0" srcdoc="%s"></iframe>'
    frames = "".join(frame % (width, html.escape(text)) for width in (360, 1200))
    (folder / "wrapper.html").write_text(WRAPPER % frames, encoding="utf8")
    command = [CHROMIUM] + FLAGS.split() + ["--user-data-dir=%s" % (folder / "profile")]
    command += ["--dump-dom", "file://%s" % (folder / "wrapper.html")]
    streams = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    done = subprocess.run(command, timeout=120, check=True, universal_newlines=True, **streams)
    found = html.unescape(re.search("<pre>(.*)</pre>", done.stdout).group(1))
    return json.loads(found), re.findall(r"CONSOLE.*", done.stderr)


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason="no chromium on the PATH: see scripts/browser.sh")
class TestInABrowser:
    @pytest.mark.parametrize("name", PAGES)
    def test_fits_telephones_and_desktops(self, name, tmp_path):
        windows, complaints = look(PAGES[name], tmp_path)
        assert complaints == []
        for window, room in zip(windows, (360, 1200)):
            assert window["width"] <= window["room"] <= room
            assert window["images"] == len(Parsed(PAGES[name]).all("img"))
            assert window["undecoded"] == window["cut"] == 0
            assert (window["drawn"] > 0) == ("<svg" in PAGES[name])

    def test_prints_on_few_pages_with_its_table_whole(self, tmp_path):
        """Of a usual evaluation: 22 attacks, 11 checks, 4 curves, 8 images."""
        trials = [dict(TRIAL, name="apgd-attack%d" % n) for n in range(22)]
        verdicts = [dict(RECORD["verdicts"][2], name=name) for name in CHECKS]
        shown = [misclassified(row=n) for n in range(8)]
        text = page(record(trials=trials, verdicts=verdicts), shown)
        (tmp_path / "page.html").write_text(text, encoding="utf8")
        command = [CHROMIUM] + FLAGS.split() + ["--user-data-dir=%s" % (tmp_path / "profile")]
        command += ["--print-to-pdf=%s" % (tmp_path / "page.pdf"), "--no-pdf-header-footer"]
        subprocess.run(
            command + ["file://%s" % (tmp_path / "page.html")],
            timeout=120,
            check=True,
            stderr=subprocess.DEVNULL,
        )
        assert len(re.findall(rb"/Type\s*/Page\b", (tmp_path / "page.pdf").read_bytes())) <= 4

    def test_long_words_do_not_widen_it(self, tmp_path):
        word = "x" * 300
        changes = dict(members=[dict(NETWORK, path=word)], command=word, architecture=word)
        changes["verdicts"] = [dict(RECORD["verdicts"][0], title=word, reason=word, see=word)]
        changes["trials"] = [dict(TRIAL, name=word, goal=word)]
        windows, _ = look(page(record(**changes), [misclassified(attack=word)]), tmp_path)
        assert all(window["width"] <= window["room"] for window in windows)

    def test_what_is_looked_for_would_be_found(self, tmp_path):
        wrong = '<div style="width: 2000px">wide</div><img src="data:image/png;base64,AAAA">'
        wrong += '<img src="https://example.org/a.png">'
        text = PAGES["full"].replace("<main>", wrong + "<main>")
        windows, complaints = look(text, tmp_path)
        assert all(window["width"] >= 2000 > window["room"] for window in windows)
        assert all(window["undecoded"] == 2 for window in windows)
        assert len(complaints) >= 1 and "Content Security Policy" in complaints[0]
