"""Jobs in worker processes: each is done once, a death costs an attempt, the culprit alone is given up."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egoinstructor.engine import ATTEMPTS, Died, Done, Failed, each

HERE = Path(__file__).parent
DIE = "import os; os._exit(9)"
KILL = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"


@pytest.fixture(scope="module")
def makers():
    """The module of makers, which workers find on the path too."""
    sys.path.insert(0, str(HERE))
    yield importlib.import_module("makers")
    sys.path.remove(str(HERE))


def touch(path) -> str:
    return f"open({str(path)!r}, 'a').write('x')"


def test_every_job_is_done_once(makers, tmp_path):
    jobs = [f"{touch(tmp_path / str(i))}; result = {i} ** 2" for i in range(7)]
    outcomes = list(each(makers.runner, jobs, workers=2))
    assert sorted((outcome.job, outcome.result) for outcome in outcomes) == [(job, i**2) for i, job in enumerate(jobs)]
    assert [file.read_text() for file in tmp_path.iterdir()] == ["x"] * 7


def test_nothing_to_do(makers):
    assert list(each(makers.runner, [], workers=2)) == []


def test_a_worker_keeps_what_was_made(makers):
    results = [outcome.result for outcome in each(makers.stateful, "abc", workers=1)]
    assert results == [["a"], ["a", "b"], ["a", "b", "c"]]


def test_ranks_tell_workers_apart(makers):
    jobs = ["import time; time.sleep(0.2); result = (rank, workers)"] * 4
    assert {outcome.result for outcome in each(makers.runner, jobs, workers=2)} <= {(0, 2), (1, 2)}


def test_what_a_job_raises_is_its_outcome_alone(makers):
    outcomes = {o.job: o for o in each(makers.runner, ["result = 1", "raise KeyError('here')"], workers=1)}
    assert outcomes["result = 1"] == Done("result = 1", 1)
    failed = outcomes["raise KeyError('here')"]
    assert isinstance(failed, Failed)
    assert repr(failed.error) == "KeyError('here')"


def test_a_result_that_cannot_be_sent_is_a_failure(makers):
    (outcome,) = each(makers.runner, ["result = lambda: 0"], workers=1)
    assert isinstance(outcome, Failed)
    assert "can't be sent" in str(outcome.error)


def test_what_a_maker_raises_is_raised(makers):
    with pytest.raises(KeyError, match="no model here"):
        list(each(makers.broken, ["x"], workers=2))


def test_a_death_costs_nothing_but_time(makers, tmp_path):
    mark = tmp_path / "mark"
    once = f"import os, signal\nif not os.path.exists({str(mark)!r}):\n {touch(mark)}\n os.kill(os.getpid(), signal.SIGKILL)"
    jobs = [touch(tmp_path / "a"), once, *(touch(tmp_path / str(i)) for i in range(5))]
    assert {type(outcome) for outcome in each(makers.runner, jobs, workers=2)} == {Done}
    assert len(list(tmp_path.iterdir())) == 7


@settings(max_examples=5, deadline=None)
@given(
    faults=st.lists(st.sampled_from(["done", "raise", "exit", "crash"]), min_size=1, max_size=6),
    workers=st.integers(1, 3),
)
def test_whatever_happens_each_job_has_its_outcome(makers, tmp_path_factory, faults, workers):
    folder = tmp_path_factory.mktemp("jobs")
    what = {"done": "result = 5", "raise": "1 / 0", "exit": DIE, "crash": KILL}
    jobs = [f"{touch(folder / str(i))}\n{what[fault]}" for i, fault in enumerate(faults)]
    outcomes = {outcome.job: outcome for outcome in each(makers.runner, jobs, workers=workers)}
    expected = {"done": Done, "raise": Failed, "exit": Died, "crash": Died}
    assert [type(outcomes[job]) for job in jobs] == [expected[fault] for fault in faults]
    codes = {"exit": 9, "crash": -signal.SIGSEGV}
    assert [outcomes[job].exit_code for job, f in zip(jobs, faults, strict=True) if f in codes] == [
        codes[f] for f in faults if f in codes
    ]
    counts = [len((folder / str(i)).read_text()) for i in range(len(jobs))]
    assert counts == [ATTEMPTS if fault in codes else 1 for fault in faults]


def test_no_more_jobs_are_taken_than_workers_do(makers):
    taken = []

    def jobs():
        for i in range(20):
            taken.append(i)
            yield f"result = {i}"

    with closing(each(makers.runner, jobs(), workers=2)) as outcomes:
        next(outcomes)
        assert len(taken) <= 3
    assert len(taken) <= 3


def test_closing_leaves_no_process(makers):
    before = set(multiprocessing.active_children())
    outcomes = each(makers.runner, ["result = 0", *["import time; time.sleep(600)"] * 2], workers=2)
    assert next(outcomes).result == 0
    outcomes.close()
    assert set(multiprocessing.active_children()) <= before


def test_ctrl_c_while_a_worker_starts_stops_that_one_too(makers, monkeypatch):
    """It comes when the process runs and is not yet noted."""
    started = []
    start_it = ForkServerProcess.start

    def start(process):
        start_it(process)
        started.append(process)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(ForkServerProcess, "start", start)
    with pytest.raises(KeyboardInterrupt):
        next(each(makers.runner, ["import time; time.sleep(600)"], workers=1))
    for process in started:
        process.join(300)
        assert process.exitcode is not None
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def run_with_makers(code: str) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    code = f"from makers import *\nfrom egoinstructor.engine import each\n{code}"
    return subprocess.Popen(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": path}, stdout=subprocess.PIPE, text=True
    )


def test_ctrl_c_does_not_reach_workers():
    """Each would print where it was, while it is being set up too."""
    process = run_with_makers("print([outcome.result for outcome in each(signals, [1], workers=1)])")
    assert process.communicate()[0] == "[['SIGINT']]\n"


@pytest.mark.slow
def test_workers_end_with_the_process_that_started_them(tmp_path):
    note = tmp_path / "pid"
    job = f"import os, time; open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    process = run_with_makers(f"list(each(runner, [{job!r}], workers=1))")
    while not note.exists() or not note.read_text():
        time.sleep(0.05)
    process.kill()
    process.communicate()
    status = Path(f"/proc/{note.read_text()}/status")
    while status.exists() and "zombie" not in status.read_text():
        time.sleep(0.05)
