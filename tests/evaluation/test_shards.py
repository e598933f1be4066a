"""Shards: the whole of them is byte for byte what one process computes, and nothing else is."""

import json
import os
import shutil

import pytest

from empir.errors import EmpirError, ResumeError
from empir.evaluation import shards, single
from empir.evaluation.shards import Shard
from empir.records import provenance
from tests.evaluation.test_single import (  # noqa: F401 - `members` is a fixture
    Killed,
    job,
    kill_after,
    members,
    without_times,
)


def compute(run, session, out, *texts):
    """Compute shards into folders below `out`; returns the folders."""
    folders = [os.path.join(str(out), text.replace("/", "-of-")) for text in texts]
    for text, folder in zip(texts, folders):
        single.evaluate(run, session, folder, progress=False, shard=Shard.parse(text))
    return folders


def merge(folders, out):
    """The record of the whole of the parts in some folders."""
    [parts] = shards.find(folders).values()
    shards.check_whole(parts)
    return single.merge(parts, str(out))


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "1/0", "-1/2", "1/2/3", "a/b", "1/2 "])
def test_a_text_that_means_no_shard_is_refused(text):
    with pytest.raises(EmpirError, match="write NUMBER/COUNT"):
        Shard.parse(text)


@pytest.mark.parametrize("items, count", [(1, 1), (5, 2), (6, 3), (17, 16), (500, 512 - 13)])
def test_every_chunk_is_of_one_shard(items, count):
    ranges = [Shard(number, count).range_of(items) for number in range(1, count + 1)]
    assert [item for one in ranges for item in one] == list(range(items))
    assert max(map(len, ranges)) - min(map(len, ranges)) <= 1


def test_more_shards_than_chunks_are_refused():
    with pytest.raises(EmpirError, match="there are 3 chunks"):
        Shard(1, 4).range_of(3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "attack, size",
    [("cw", {}), ("pgd", {}), ("jsma", dict(count=6, batch_size=2))]
    + [("rays", dict(count=6, batch_size=2))],
    ids=["cw", "pgd", "jsma", "rays"],
)
def test_the_whole_of_shards_is_what_one_process_computes(
    members, tmp_path, attack, size  # noqa: F811
):
    session, own = members
    run = job(own[1:], attack, save_adversarial=True, **size)
    whole = single.evaluate(run, session, str(tmp_path / "whole"), progress=False).record
    folders = compute(run, session, tmp_path, "1/2", "2/2")
    record = merge(folders[::-1], tmp_path / "merged")
    assert [part["shard"] for part in record.pop("shards")] == ["1/2", "2/2"]
    assert without_times(record) == without_times(whole)
    for name in ("examples.npz", "images.npz"):
        one, other = (tmp_path / folder / name for folder in ("whole", "merged"))
        assert one.exists() == other.exists() and (
            not one.exists() or one.read_bytes() == other.read_bytes()
        )
    assert (tmp_path / "merged" / "images.npz").exists()
    with open(str(tmp_path / "merged" / "result.json")) as file:
        assert json.load(file)["examples_sha256"] == whole["examples_sha256"]
    again = merge(folders, tmp_path / "merged")  # is accepted, not computed
    assert again["started"] == record["started"]
    with pytest.raises(ResumeError, match="result.json exists"):
        single.evaluate(run, session, str(tmp_path / "merged"))


@pytest.mark.slow
def test_a_missing_or_foreign_part_is_named(members, tmp_path, monkeypatch):  # noqa: F811
    session, own = members
    run = job(own[2:], "fgsm")
    one, two, three = compute(run, session, tmp_path, "1/3", "2/3", "3/3")
    out = tmp_path / "merged"
    cases = [([one, three], "shard 2 of 3 is missing"), ([one, two, two], "are both shard 2/3")]
    [other] = compute(job(own[2:], "fgsm", seed=8), session, tmp_path / "seed", "3/3")
    cases.append(([one, two, other], "is a part of another evaluation .*seed was 7, now 8"))
    [half] = compute(run, session, tmp_path / "half", "2/2")
    cases.append(([one, half], "is shard 2/2, but .* is 1/3"))
    with monkeypatch.context() as patch:
        patch.setattr(provenance, "environment", lambda: {"processor": "another"})
        [elsewhere] = compute(run, session, tmp_path / "elsewhere", "3/3")
    cases.append(([one, two, elsewhere], "computed elsewhere .*processor was .*--mixed"))
    for folders, problem in cases:
        with pytest.raises(EmpirError, match=problem):
            merge(folders, out)
    with pytest.raises(EmpirError, match="holds no finished shard"):
        merge([one, str(tmp_path / "whole")], out)
    assert not out.exists()


@pytest.mark.slow
def test_a_damaged_chunk_of_a_part_is_named_and_computed_again(members, tmp_path):  # noqa: F811
    session, own = members
    run = job(own[2:], "fgsm")
    folders = compute(run, session, tmp_path, "1/2", "2/2")
    chunk = os.path.join(folders[1], "partial", "chunk-00000010.npz")
    shutil.copy(os.path.join(folders[1], "partial", "chunk-00000020.npz"), chunk)
    with pytest.raises(EmpirError, match="lacks the chunk of example 10 of shard 2/2"):
        merge(folders, tmp_path / "merged")
    single.evaluate(run, session, folders[1], True, False, Shard(2, 2))
    assert merge(folders, tmp_path / "merged")["num_examples"] == 25


@pytest.mark.slow
def test_a_killed_shard_goes_on_and_no_other_run_takes_its_folder(
    members, tmp_path, monkeypatch  # noqa: F811
):
    session, own = members
    run, out = job(own[2:], "fgsm", batch_size=5), str(tmp_path / "part")
    with monkeypatch.context() as patch:
        kill_after(patch, 1)
        with pytest.raises(Killed):
            single.evaluate(run, session, out, shard=Shard(2, 2))
    with pytest.raises(EmpirError, match="holds no finished shard"):
        shards.find([out])
    for shard in (None, Shard(1, 2)):
        with pytest.raises(ResumeError, match="shard was .2/2., now"):
            single.evaluate(run, session, out, True, shard=shard)
    with pytest.raises(ResumeError, match="--resume continues it"):
        single.evaluate(run, session, out, shard=Shard(2, 2))
    with monkeypatch.context() as patch:
        kill_after(patch, 2)  # of three chunks one is there
        single.evaluate(run, session, out, True, shard=Shard(2, 2))
    [[part]] = shards.find([out]).values()
    assert part.shard == Shard(2, 2)
