"""Checkpoints outside of a clone come from a folder or an URL, checked by the manifest."""

import filecmp
import functools
import http.server
import os
import shutil
import threading

import pytest

from empir import published
from empir.errors import CheckpointError, EmpirError
from tests.support import ROOT

FOLDER = "checkpoints/independent/cifar10"


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves the current folder and logs nothing."""

    def log_message(self, *_):
        """Nothing."""


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """An installed package's situation; returns a folder that holds the checkpoint."""
    monkeypatch.setattr(published, "ROOT", str(tmp_path / "nowhere"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    mirror = tmp_path / "mirror"
    shutil.copytree(os.path.join(ROOT, FOLDER), str(mirror / FOLDER))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return mirror


@pytest.fixture
def server(outside):
    """The URL of a server of that folder."""
    handler = functools.partial(Quiet, directory=str(outside))
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        yield "http://127.0.0.1:%d" % serving.server_port
        serving.shutdown()
        thread.join()


def test_a_folder_is_used_where_it_is(outside, monkeypatch):
    monkeypatch.setenv(published.WEIGHTS, str(outside))
    found = published.shipped(FOLDER, "members=...")
    assert os.path.samefile(found, str(outside / FOLDER))


def test_an_url_is_fetched_once_into_the_cache(outside, server, monkeypatch, tmp_path):
    monkeypatch.setenv(published.WEIGHTS, server + "/")
    found = published.shipped(FOLDER, "members=...")
    assert found.startswith(str(tmp_path / "cache"))
    for name in ("model.index", "model.data-00000-of-00001"):
        assert filecmp.cmp(os.path.join(found, name), str(outside / FOLDER / name), shallow=False)
    shutil.rmtree(str(outside / "checkpoints"))
    assert published.shipped(FOLDER, "members=...") == found


@pytest.mark.parametrize("kind", ["folder", "url"])
def test_files_that_are_missing_or_others_are_refused_in_a_line(
    outside, server, monkeypatch, tmp_path, kind
):
    monkeypatch.setenv(published.WEIGHTS, server if kind == "url" else str(outside))
    path = outside / FOLDER / "model.index"
    for content in (b"other", None):
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
        with pytest.raises(CheckpointError, match="model.index") as error:
            published.shipped(FOLDER, "members=...")
        assert "\n" not in str(error.value) and published.WEIGHTS in str(error.value)
        assert not list((tmp_path / "cache").rglob("model.index"))


def test_without_a_place_the_error_says_how_to_name_one(outside, monkeypatch):
    monkeypatch.delenv(published.WEIGHTS, raising=False)
    with pytest.raises(EmpirError, match="give members=..., .* or set EMPIR_WEIGHTS to a clone"):
        published.shipped(FOLDER, "members=...")
    with pytest.raises(EmpirError, match="repository$"):
        published.shipped("results", "--out")
