"""The folder that the demo writes into, which is its own and nobody else's."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from egoinstructor.assets import demo_files
from egoinstructor.errors import InputError
from egoinstructor.files import atomic_file

MARKER = ".egoinstructor-demo"
PAGE, SHEET = "index.html", "contact_sheet.png"
LIBRARY, MEDIA = "library", "media"


class DemoFolder:
    """A folder of the demo's; nothing in it is touched before `empty`.

    Args:
        path: a new or empty folder, or one that the demo made.

    Raises:
        InputError: it holds something else.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.page, self.sheet = self.path / PAGE, self.path / SHEET
        self.library, self.media = self.path / LIBRARY, self.path / MEDIA
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"{path} is a file. Name a new folder with --out.")
        if self.path.is_dir() and not (self.path / MARKER).is_file() and any(self.path.iterdir()):
            raise InputError(f"{path} holds files that are not the demo's. Name a new folder with --out.")

    def check_outside(self, path: str | Path) -> None:
        """Refuse a file or folder of the user's that lies where things are removed.

        Raises:
            InputError: it does.
        """
        if Path(path).resolve().is_relative_to(self.path.resolve()):
            raise InputError(f"{path} lies in {self.path}, which is emptied. Name another --out.")

    def empty(self) -> None:
        """Make it, or remove what an earlier run wrote.

        Raises:
            InputError: it can't be written.
        """
        with self.written():
            self.path.mkdir(parents=True, exist_ok=True)
            (self.path / MARKER).touch()
            for file in (self.page, self.sheet):
                file.unlink(missing_ok=True)
            for folder in (self.library, self.media):
                if folder.exists():
                    shutil.rmtree(folder)
            self.media.mkdir()

    @contextmanager
    def written(self) -> Iterator[None]:
        """Say what to do where something can't be written.

        Raises:
            InputError: it can't.
        """
        try:
            yield
        except OSError as error:
            raise InputError(
                f"{self.path} can't be written: {error}. Free some space, or name another folder with --out."
            ) from error

    def copy_library(self) -> Path:
        """Copy the library that comes with the package, which may lie where nothing can be written."""
        source = demo_files() / "library"
        with self.written():
            for file in source.rglob("*"):
                if file.is_file():
                    target = self.library / file.relative_to(source)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(file, target)  # the content alone: the original may be read-only
        return self.library

    def write(self, file: Path, content: bytes) -> None:
        """Write a file of this folder; it is there as a whole or not at all.

        Raises:
            InputError: it can't be written.
        """
        with atomic_file(file) as partial:
            partial.write_bytes(content)
