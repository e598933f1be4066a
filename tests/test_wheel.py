"""The package as it is installed: what a wheel holds, and each command outside a clone.

A wheel is built of a copy of the repository's files and installed into a new environment, which
borrows the packages of the one that runs the tests: nothing is fetched.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile

import pytest

from empir.runtime import VERSION
from tests.support import MEMBERS, ROOT
from tests.support.released import WIDTH, save_members

pytestmark = pytest.mark.slow  # it starts processes

SHARED_PACKAGES = sysconfig.get_paths()["purelib"]


def run(command, folder):
    """A finished process, started in a folder and without PYTHONPATH."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(
        command,
        cwd=str(folder),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
    )


def succeed(command, folder):
    """Standard output of a command that has to succeed."""
    process = run([str(word) for word in command], folder)
    assert process.returncode == 0, process.stderr
    return process.stdout


def environment(folder):
    """Python of a new environment without pip, which sees the packages of this one."""
    succeed([sys.executable, "-m", "venv", "--without-pip", folder], ROOT)
    packages = os.path.join(str(folder), os.path.relpath(SHARED_PACKAGES, sys.prefix))
    with open(os.path.join(packages, "shared.pth"), "w") as file:
        file.write(SHARED_PACKAGES + "\n")
    return os.path.join(str(folder), "bin", "python")


def pip(folder, *words):
    """Run this environment's pip in a folder, without a network."""
    quiet = ["--disable-pip-version-check", "--quiet", "--no-input"]
    succeed([sys.executable, "-m", "pip", *quiet, *words], folder)


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A copy of the repository's files, in a folder called empir; of checkpoints one stands in."""
    target = tmp_path_factory.mktemp("home") / "empir"
    listed = succeed(["git", "ls-files", "-co", "--exclude-standard"], ROOT).splitlines()
    kept = [name for name in listed if not name.startswith(("checkpoints/", "results/cifar10/"))]
    for name in filter(lambda name: os.path.isfile(os.path.join(ROOT, name)), kept):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(os.path.join(ROOT, name), str(target / name))
    (target / "checkpoints").mkdir()
    (target / "checkpoints" / "a.json").write_text("{}")
    return target


@pytest.fixture(scope="module")
def archive(clone):
    """The unpacked source archive of the clone."""
    python, out = sys.executable, clone.parent / "sdist"
    succeed([python, "setup.py", "-q", "sdist", "--dist-dir", out], clone)
    (packed,) = out.glob("*.tar.gz")
    shutil.unpack_archive(str(packed), str(out))
    (unpacked,) = [path for path in out.iterdir() if (path / "setup.py").exists()]
    return unpacked


@pytest.fixture(scope="module")
def wheel(archive):
    """A wheel that is built from the source archive, as package indexes' users may have to."""
    out = archive.parent / "wheel"
    pip(archive, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(out), ".")
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Python of a new environment with the wheel in it."""
    python = environment(tmp_path_factory.mktemp("environment"))
    pip(wheel.parent, "--python", python, "install", "--no-deps", str(wheel))
    return python


def program(python):
    """The console command beside an environment's Python."""
    return os.path.join(os.path.dirname(python), "empir")


def package_files(folder):
    """Files of the package in a folder, but compiled ones, relative to the folder."""
    found = (folder / "empir").rglob("*")
    return {
        str(path.relative_to(folder))
        for path in found
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_a_wheel_holds_the_package_whole_and_nothing_else(clone, wheel):
    with zipfile.ZipFile(str(wheel)) as opened:
        names = {name for name in opened.namelist() if not name.endswith("/")}
        metadata = opened.read(next(n for n in names if n.endswith("/METADATA"))).decode("utf8")
    held = {name for name in names if ".dist-info/" not in name}
    assert held == package_files(clone)
    assert any(name.endswith(".dist-info/LICENSE") for name in names)
    assert "Requires-Python: >=3.7,<3.9\n" in metadata
    assert "Programming Language :: Python :: 3.7\n" in metadata


def test_a_source_archive_holds_what_a_user_runs_and_no_records(clone, archive):
    assert package_files(archive) == package_files(clone)
    there = {path.name for path in archive.iterdir()}
    assert {"LICENSE", "README.md", "examples", "scripts", "requirements-cpu.txt"} <= there
    assert not {"tests", "results", "checkpoints"} & there


def test_the_extra_for_tests_asks_for_the_pinned_versions(wheel):
    with zipfile.ZipFile(str(wheel)) as opened:
        name = next(n for n in opened.namelist() if n.endswith("/METADATA"))
        lines = opened.read(name).decode("utf8").splitlines()
    tail = "; extra == 'test'"
    asked = [line for line in lines if line.startswith("Requires-Dist: ") and line.endswith(tail)]
    with open(os.path.join(ROOT, "requirements-test.txt")) as file:
        pinned = {line.strip() for line in file if line.strip() and not line.startswith("#")}
    shown = {line[len("Requires-Dist: ") : -len(tail)].replace(" ", "") for line in asked}
    assert {line.lower() for line in pinned} == {line.lower() for line in shown}


CLONE = "run it from a clone"
COMMANDS = {
    "cost": ("empir cost --dataset=mnist", "the paper's claim, %"),
    "empir": ("empir --help", "empir COMMAND [FLAG...]"),
    "verify": (
        "empir checkpoints verify %s" % os.path.join(MEMBERS, "model3-fp"),
        "checkpoints/mnist/model3-fp of empir/published/manifest.json",
    ),
    "convert": ("empir convert --help", "usage: empir convert"),
}
REFUSED = {
    "reproduce": (
        "empir reproduce --sample --out=out",
        "give --members_dir=FOLDER, or " + CLONE,
    ),
    "reproduce-members": (
        "empir reproduce --sample --members=. --out=out",
        "no checkpoint at",
    ),
    "robustness": (
        "empir robustness --sample --out=out",
        "give --members=PRECISION:CHECKPOINT,... or --checkpoint=MODEL.h5, or " + CLONE,
    ),
    "manifest": ("empir checkpoints manifest", CLONE),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_needs_no_clone_runs_elsewhere(installed, tmp_path, name):
    command, says = COMMANDS[name]
    process = run([installed, "-m"] + command.split(), tmp_path)
    assert says in process.stdout, process.stderr


@pytest.mark.parametrize("name", REFUSED)
def test_a_command_that_lacks_its_files_says_what_to_give_before_any_work(
    installed, tmp_path, name
):
    command, says = REFUSED[name]
    process = run([installed, "-m"] + command.split(), tmp_path)
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr.count("\n") == 1 and says in process.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "line, says",
    [
        ("--version", "."),
        ("checkpoints --help", "verify PATH"),
        ("attack --dataset=cifar10 --help", "--attack_target"),
    ],
)
def test_the_console_command_is_there(installed, tmp_path, line, says):
    assert says in run([program(installed)] + line.split(), tmp_path).stdout


TABLE = """
from empir.experiments import experiment
from empir.report import tables
print(tables.terminal({folder!r}, experiment("mnist")))
"""


def test_the_table_that_ends_a_reproduction_is_printed_elsewhere(installed, tmp_path):
    code = TABLE.format(folder=os.path.join(ROOT, "results", "mnist"))
    assert "(98.87)" in succeed([installed, "-c", code], tmp_path)


def test_a_suite_runs_elsewhere_and_names_the_attack_that_it_lacks(installed, tmp_path):
    save_members(str(tmp_path))
    command = "robustness --sample --nb_filters=%d --members=w2a4:model1 --nb_samples=2" % WIDTH
    command += " --nb_iter=1 --restarts=1 --noanalyses --noprogress --out=out"
    assert "not run: apgd-outside" in succeed([program(installed)] + command.split(), tmp_path)
    assert "apgd-outside" in (tmp_path / "out" / "report.html").read_text()


SCRIPT = """
import empir
from empir.models import checkpoints
print(empir.__version__, empir.__file__, checkpoints.__file__)
"""


def test_a_script_beside_the_clone_imports_the_package_in_it(clone, tmp_path):
    """The script's folder comes first on the path, and in it the clone's folder is called empir."""
    python = environment(tmp_path / "environment")
    build = ["--no-deps", "--no-build-isolation"]
    pip(clone, "--python", python, "install", *build, "--editable", str(clone))
    script = clone.parent / "script.py"
    script.write_text(SCRIPT)
    version, *files = succeed([python, "script.py"], clone.parent).split()
    assert version == VERSION
    for name, path in zip(("__init__.py", "models/checkpoints.py"), files):
        assert os.path.samefile(path, str(clone / "empir" / name))
