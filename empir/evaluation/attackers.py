"""What computes a chunk: of a single attack, and of the attacks of a suite.

Both are made in the process that writes the evaluation, or, of what can be pickled, in another one:
see `places.Place`.
"""

import contextlib
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Callable, Optional, Sequence

import numpy as np

from empir import attacks
from empir.data import Dataset
from empir.evaluation import places, runner
from empir.evaluation.graph import AttackGraph, Judge, Networks, Setting
from empir.evaluation.metrics import label_ranks, require_valid
from empir.evaluation.specs import AttackSpec
from empir.evaluation.storage import COLUMNS
from empir.models.ensemble import DECISION_RULES

if TYPE_CHECKING:
    from empir.evaluation.single import Job

#: What decides on an image: the ensemble under each of its rules, and the members.
DECIDERS = DECISION_RULES + ("members",)


class JobAttacker:
    """Computes the arrays of a single attack's chunks, in one graph.

    Args:
      job: the attack.
      session: holds the weights of its networks.

    Attributes:
      build_seconds: time that the graph took.
    """

    def __init__(self, job: "Job", session):
        began = time.perf_counter()
        self._job, self._spec = job, job.spec
        networks = Networks(session, job.ensemble)
        self._setting = Setting(
            open=lambda: contextlib.nullcontext(networks),
            data=job.data,
            threat=None,
            seed=job.seed,
            batch_size=job.batch_size,
            judging_samples=1,
            shares=job.shares,
        )
        self._judge = Judge(self._setting, networks)
        self._graph = AttackGraph(self._setting, networks, self._spec, self._judge)
        self._decisions = None
        self.build_seconds = time.perf_counter() - began

    def __call__(self, rows) -> dict:
        """Arrays of `Job.columns` of some examples, and "seconds" [1, 2]: clean pass, attack."""
        job = self._job
        image_rows = rows // job.per_image
        images, labels = job.data.images[image_rows], job.data.labels[image_rows]
        began = time.perf_counter()
        clean = self._judge(images)
        cleaned = time.perf_counter()
        require_valid(job.attack, rows, job.data.clip_range, clean=clean["logits"])
        given = self._with_starts(clean, image_rows)
        found = runner.attack_examples(self._graph, self._setting, self._spec, rows, given)
        attacked = time.perf_counter()
        arrays = {name: found[name] for name in ("l2", "linf", "changed")}
        arrays.update(label=labels, index=image_rows.astype(np.int64))
        arrays["seconds"] = np.array([(cleaned - began, attacked - cleaned)])
        for name, outputs in (("clean", clean), ("adversarial", found)):
            for rule in DECIDERS:
                arrays[f"{name}_{rule}"] = outputs[rule].astype(np.int16)
            if job.has_top5:
                ranked = label_ranks(outputs["logits"], labels, job.ensemble.temperature)
                arrays.update({f"{name}_rank_{rule}": ranks for rule, ranks in ranked.items()})
        if job.has_targets:
            arrays["target"] = found["target"].astype(np.int64)
        if job.save_adversarial:
            arrays["adversarial"] = found["adversarial"]
            arrays["adversarial_logits"] = found["logits"]
            arrays["clean_logits"] = clean["logits"]
        if job.show:
            arrays["shown"] = found["adversarial"][job.is_shown(rows)]
        return arrays

    def _with_starts(self, clean, image_rows):
        """What an attack that sees decisions only starts from, beside the clean outputs."""
        if not attacks.row(self._spec.attack).decision_only:
            return clean
        if self._decisions is None:
            self._decisions = runner.clean_outputs(self._judge, self._setting)["decision"]
        starts = runner.starting_images(self._setting, image_rows, self._decisions)
        return dict(clean, starts=starts)


@contextlib.contextmanager
def of_job(job: "Job", sha256: Sequence, open: Callable, data: Dataset):
    """A `JobAttacker` of a job whose networks and images are not with it.

    Args:
      job: without ensemble and data.
      sha256: of `digests` of its networks.
      open: opens them, as `subjects.Source.open` on the data.
      data: its images.

    Raises:
      places.Different: if `open` opens other networks.
    """
    with _checked(open, sha256)(attacks.row(job.attack).operations) as networks:
        whole = replace(job, ensemble=networks.ensemble, data=data)
        yield JobAttacker(whole, networks.session)


def digests(networks: Networks) -> list:
    """The SHA-256 of the weights of networks, members first."""
    members = [*networks.ensemble.members, *networks.outside]
    return [member.describe().get("sha256") for member in members]


def _checked(open, sha256):
    """`open`, which accepts only networks of these digests."""

    @contextlib.contextmanager
    def opened(operations=1):
        with open(operations) as networks:
            for number, (here, there) in enumerate(zip(digests(networks), sha256), 1):
                if here != there:
                    raise places.Different(
                        f"network {number} has sha256 {here} there, {there} with the driver"
                    )
            yield networks

    return opened


class SuiteAttacker:
    """Computes the arrays of chunks of a suite's attacks, each in a graph of its own.

    The last graph is kept, and serves the next attack if that has the same operations. One graph
    judges the images of all attacks; only networks that draw at random are judged in each attack's,
    so that what they draw does not depend on the attacks before it.

    Args:
      setting: what is attacked.
      judge: of the setting, in a graph that is open as long as this is used; None = a graph of its
        own, when it is needed.
    """

    def __init__(self, setting: Setting, judge: Optional[Judge] = None):
        self._setting = setting
        self._judging, self._judge = contextlib.ExitStack(), judge
        self._opened, self._graph, self._key = contextlib.ExitStack(), None, None

    def close(self):
        """Close the graphs."""
        self._close_last()
        self._judging.close()
        self._judge = None

    def _close_last(self):
        self._opened.close()
        self._graph = self._key = None

    def _judge_of_all(self):
        if self._judge is None:
            networks = self._judging.enter_context(self._setting.open())
            self._judge = Judge(self._setting, networks)
        return self._judge

    def _graph_of(self, spec):
        key = spec.graph_key()
        if self._graph is None or key != self._key:
            self._close_last()
            judge = self._judge_of_all()  # contexts are left in the order opposite to this
            networks = self._opened.enter_context(self._setting.open())
            if networks.ensemble.draws:
                judge = Judge(self._setting, networks)
            self._graph, self._key = AttackGraph(self._setting, networks, spec, judge), key
        return self._graph

    def __call__(self, spec: Optional[AttackSpec], rows: np.ndarray, clean: dict) -> dict:
        """Arrays of some images, and how long they took.

        Args:
          spec: the attack; None: what `runner.clean_chunk` gives is computed.
          rows: int64 [n], the images.
          clean: see `runner.attack_examples`; for an attack that sees decisions only also
            "decisions", int64 [all], of all clean images.
        """
        began = time.perf_counter()
        if spec is None:
            found = runner.clean_chunk(self._judge_of_all(), self._setting, rows)
        else:
            graph, clean = self._graph_of(spec), dict(clean)
            if "decisions" in clean:
                decisions = clean.pop("decisions")
                clean["starts"] = runner.starting_images(self._setting, rows, decisions)
            found = runner.attack_examples(graph, self._setting, spec, rows, clean)
            found.update(row=rows, rounds=found["restarts"])
            found["margin"] = graph.margins(found["logits"], self._setting.data.labels[rows])
            found = {name: found[name] for name in COLUMNS}
        return dict(found, seconds=np.array([time.perf_counter() - began]))


@contextlib.contextmanager
def of_suite(setting: Setting, sha256: Sequence, open: Callable, data: Dataset):
    """A `SuiteAttacker` of a setting without `open` and data; see `of_job`."""
    whole = replace(setting, open=_checked(open, sha256), data=data)
    with contextlib.closing(SuiteAttacker(whole)) as attacker:
        yield attacker
