"""Jobs in processes: all are done, a death costs one attempt, the culprit alone is given up. A job here is Python to run."""

from __future__ import annotations

import pytest

from simkitchen.workers import ATTEMPTS, do_all

DIE = "import os; os._exit(9)"


def outcome(jobs: list[str], workers: int = 2) -> dict[str, bool]:
    ended = list(do_all(exec, jobs, workers, preload="os"))
    assert len(ended) == len(jobs)
    return dict(ended)


def touch(path) -> str:
    return f"open({str(path)!r}, 'a').write('x')"


def test_every_job_is_done_once(tmp_path):
    jobs = [touch(tmp_path / str(i)) for i in range(7)]
    assert outcome(jobs) == dict.fromkeys(jobs, True)
    assert [file.read_text() for file in tmp_path.iterdir()] == ["x"] * 7


def test_nothing_to_do():
    assert outcome([]) == {}


def test_a_death_costs_nothing_but_time(tmp_path):
    """One job kills its process once; it and those beside it are done all the same."""
    mark = tmp_path / "mark"
    once = f"import os, signal\nif not os.path.exists({str(mark)!r}):\n {touch(mark)}\n os.kill(os.getpid(), signal.SIGKILL)"
    jobs = [touch(tmp_path / "a"), once, *(touch(tmp_path / str(i)) for i in range(5))]
    assert outcome(jobs) == dict.fromkeys(jobs, True)
    assert len(list(tmp_path.iterdir())) == 7


def test_who_always_dies_is_given_up_and_no_other(tmp_path):
    count = tmp_path / "count"
    deadly = f"{touch(count)}\n{DIE}"
    jobs = [touch(tmp_path / "a"), deadly, touch(tmp_path / "b"), touch(tmp_path / "c")]
    assert outcome(jobs) == {job: job != deadly for job in jobs}
    assert count.read_text() == "x" * ATTEMPTS


def test_what_a_job_raises_is_raised():
    with pytest.raises(KeyError, match="here"):
        outcome(["raise KeyError('here')"])
