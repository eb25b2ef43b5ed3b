"""The names by which tables and folders call videos → paths that stay in the root, unless more was allowed."""

from __future__ import annotations

import os
from pathlib import Path, PurePath

from egoinstructor.errors import InputError
from egoinstructor.video.folder import VideoFolder


class Names:
    """Finds the videos of one root.

    A name may not lead out of the root: by `..`, by being absolute, or by a symbolic link. Whoever writes a table
    decides which files are opened and shown; that must not be any file of this machine.

    Args:
        root: the folder.
        allow_outside: let names lead out.
    """

    def __init__(self, root: Path, *, allow_outside: bool = False) -> None:
        self.root = root
        self._folder = VideoFolder(root)
        self._allow_outside = allow_outside
        self._real_root = root.resolve()
        self._found: dict[str, str | InputError] = {}

    def find(self, name: str) -> str:
        """The path of a video, relative to the root, with forward slashes; absolute where it lies outside.

        Args:
            name: a path, or one without its suffix.

        Raises:
            InputError: it leads out of the root, or is no name.
        """
        if name not in self._found:
            try:
                self._found[name] = self._find(name)
            except InputError as error:
                self._found[name] = error
        found = self._found[name]
        if isinstance(found, InputError):
            raise InputError(str(found))
        return found

    def _find(self, name: str) -> str:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise InputError(f"video {name!r}: the name is not UTF-8. Rename the file.") from None
        if not name.strip() or "\0" in name:
            raise InputError(f"video {name!r} is no name of a file. Give its path.")
        if self._leads_out(name):
            if not self._allow_outside:
                raise InputError(
                    f"video {name!r} leads out of {self.root}. Correct it, give the folder that holds all videos, or "
                    "allow paths outside of it."
                )
            return os.path.abspath(self.root / name)  # noqa: PTH100  # a link must not be followed to its target
        path = self._folder.path(name)
        self.refuse_link_out(path, f"video {name!r}")
        return path.relative_to(self.root).as_posix()

    def refuse_link_out(self, path: Path, what: str) -> None:
        """Refuse a file of the root that is a link out of it, unless that was allowed.

        Args:
            path: under the root.
            what: it is, as the message names it.

        Raises:
            InputError: it is one.
        """
        real = Path(os.path.realpath(path))  # which, unlike `resolve`, bears a link that leads to itself
        if not self._allow_outside and not real.is_relative_to(self._real_root):
            raise InputError(
                f"{what} is a link out of {self.root}, to {real}. Allow paths outside of it if that is meant."
            )

    def _leads_out(self, name: str) -> bool:
        path = PurePath(name)
        return ".." in path.parts or (path.is_absolute() and not path.is_relative_to(self.root.absolute()))
