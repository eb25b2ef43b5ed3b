"""Recorded behaviour: `pytest tests/frozen --record` writes `tests/golden/commands` anew, every other run compares.

Read the difference before you commit it: each line of it is a change of what users see.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from difflib import unified_diff
from pathlib import Path

import pytest
from huggingface_hub import constants

sys.path.insert(0, str(Path(__file__).parent))

from demo_inputs import make_inputs
from transcripts import differing, settled

FOLDER = Path(__file__).parents[1] / "golden" / "commands"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record", action="store_true", help="write tests/golden/commands anew instead of comparing")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("record", False):
        config.option.markexpr = ""  # slow ones are recorded too


@pytest.fixture(scope="session")
def recordings() -> Path:
    """The folder of the recorded files."""
    return FOLDER


@pytest.fixture(scope="session")
def same_as_recorded(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Compare a text with the file that was recorded, or record it."""
    record = request.config.getoption("record", False)

    def check(name: str, text: str, *, may_differ: int = 0) -> None:
        file = FOLDER / name
        if record:
            FOLDER.mkdir(exist_ok=True)
            file.write_text(text, encoding="utf-8")
            return
        recorded = file.read_text(encoding="utf-8")
        now = settled(recorded, text)
        if now != recorded and differing(recorded, now) > may_differ:
            changes = unified_diff(
                recorded.splitlines(), now.splitlines(), f"{name}, recorded", "now", lineterm="", n=2
            )
            pytest.fail("\n".join(["other than recorded (CONTRIBUTING.md, Tests):", *changes]), pytrace=False)

    return check


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Inputs of the commands. No command may write there: it would change what the next one reads."""
    folder = make_inputs(tmp_path_factory.mktemp("inputs"))
    before = contents(folder)
    yield folder
    assert contents(folder) == before


def contents(folder: Path) -> dict[Path, int]:
    """Modification time of each file in a folder, in ns."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def workplace(inputs: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory of the test's own that links to the inputs; the Hub is out of reach and its cache empty."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(inputs / "hub"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        for item in inputs.iterdir():
            (folder / item.name).symlink_to(item)
        monkeypatch.chdir(folder)
        yield folder


@pytest.fixture
def names(inputs: Path, workplace: Path) -> dict[str, str]:
    """Folders of this run, and the names that replace them in a transcript."""
    return {str(workplace): "<tmp>", str(inputs): "<tmp>"}
