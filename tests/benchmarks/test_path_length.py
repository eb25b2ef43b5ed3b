"""The tracer of `benchmarks/path_length.py` on a package of three files."""

from __future__ import annotations

import sys
import threading

import pytest

from path_length import Tracer

FILES = {
    "outer.py": """
import inner

class Size:
    size = len([1])

def declare():
    inner.option()

def run():
    return sorted([inner.work(n) for n in (2, 1)], key=inner.leaf)
""",
    "inner.py": """
import deep

def option():
    pass

def work(n):
    return deep.Deep().go(n)

def leaf(n):
    return n
""",
    "deep.py": """
def option():
    pass

class Deep:
    def go(self, n):
        return n if n == 0 else self.go(n - 1)
""",
    "options.py": """
def declare():
    add()

def add():
    pass
""",
}


@pytest.fixture
def traced(tmp_path, monkeypatch):
    """Trace a function and summarise it."""
    for name, code in FILES.items():
        (tmp_path / name).write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    for name in FILES:
        monkeypatch.delitem(sys.modules, name.removesuffix(".py"), raising=False)

    def trace(work, declares=None):
        tracer = Tracer(tmp_path, declares)
        threading.setprofile(tracer)
        sys.setprofile(tracer)
        try:
            work()
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
        return tracer.way()

    yield trace
    for name in FILES:
        sys.modules.pop(name.removesuffix(".py"), None)


def test_files_calls_and_the_deepest_chain(traced):
    import outer

    way = traced(outer.run)
    assert way.files == ["deep.py", "inner.py", "outer.py"]
    assert way.calls == [("inner.py", "deep.py"), ("outer.py", "inner.py")]
    assert way.chain == ["outer.py:run", "inner.py:work", *["deep.py:Deep.go"] * 3]


def test_bodies_of_modules_do_not_count(traced):
    assert traced(lambda: __import__("outer")).files == []


def test_files_that_only_declare_options_are_kept_apart(traced):
    import options
    import outer

    def work():
        options.declare()
        outer.run()

    way = traced(work, declares=options.declare)
    assert (way.files, way.declaring) == (["deep.py", "inner.py", "outer.py"], ["options.py"])
    assert traced(work).declaring == []


def test_threads_are_traced(traced):
    import outer

    def work():
        thread = threading.Thread(target=outer.run)
        thread.start()
        thread.join()

    assert len(traced(work).chain) == 5
