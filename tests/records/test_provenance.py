"""What a record says of the software, the checkout and the process that made it."""

import subprocess

import empir
from empir import runtime
from empir.records import provenance


def test_provenance_says_what_ran_where():
    told = provenance.of_run()
    versions, commit = told["versions"], told["git_commit"]
    assert versions["python"].startswith("3.7.") and versions["tensorflow"].startswith("1.15.")
    assert versions["keras"] == "2.2.4" and versions["cleverhans"] == "2.1.0"
    assert versions["device"] and versions["empir"] == empir.__version__
    assert commit is None or len(commit.split("-")[0]) == 40


def test_the_environment_tells_kernels_apart(monkeypatch):
    found = []
    for value in ("0", "1"):
        monkeypatch.setenv("TF_DISABLE_MKL", value)
        found.append(provenance.environment())
    assert found[0] != found[1] and found[1]["tensorflow"].endswith(", TF_DISABLE_MKL=1")
    assert {**found[0], "tensorflow": ""} == {**found[1], "tensorflow": ""}


def test_outside_a_checkout_there_is_no_commit(monkeypatch):
    def fails(*_, **__):
        raise subprocess.CalledProcessError(128, "git")

    monkeypatch.setattr(subprocess, "check_output", fails)
    assert provenance.git_commit() is None


def repository(folder):
    """Make a repository with one commit, which has a tag: a function that calls git in it."""

    def git(*words):
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        command = ["git", "-C", str(folder), *who, *words]
        return subprocess.check_output(command, universal_newlines=True).strip()

    (folder / "tracked").write_text("")
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "theirs")
    git("tag", "-a", "v1", "-m", "first")
    return git


def test_the_commit_is_that_of_the_checkout_and_says_if_tracked_files_differ(monkeypatch, tmp_path):
    commit = repository(tmp_path)("rev-parse", "HEAD")
    monkeypatch.setattr(runtime, "ROOT", str(tmp_path))
    (tmp_path / "untracked").write_text("")
    assert provenance.git_commit() == commit
    (tmp_path / "tracked").write_text("changed")
    assert provenance.git_commit() == commit + "-dirty"


def test_the_commit_of_a_repository_around_an_environment_is_not_the_packages(
    monkeypatch, tmp_path
):
    packages = tmp_path / "environment" / "packages"
    packages.mkdir(parents=True)
    repository(tmp_path)
    for root, there in ((tmp_path, True), (packages, False)):
        monkeypatch.setattr(runtime, "ROOT", str(root))
        assert (provenance.git_commit() is not None) is there


def test_peak_memory_is_in_megabytes():
    assert 50 < provenance.peak_memory_mb() < 100000  # this process has TensorFlow loaded
