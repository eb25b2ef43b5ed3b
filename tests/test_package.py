"""The package as a whole: light to import, complete without its extras, imports one way only, metadata that holds."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import egoinstructor

REPOSITORY = Path(__file__).resolve().parents[1]
SOURCE = REPOSITORY / "src" / "egoinstructor"
PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
EXTRAS = PROJECT["optional-dependencies"]
FILES = sorted(SOURCE.rglob("*.py"))
MODULES = [".".join(file.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__") for file in FILES]


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=REPOSITORY, env=os.environ | environment, capture_output=True, text=True, timeout=900, check=False
    )


def python(code: str, *arguments: str) -> str:
    """What a fresh interpreter prints."""
    done = run(sys.executable, "-c", code, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def installed_with(requirements: Iterable[str]) -> set[str]:
    """The distributions that installing these brings, directly or not."""
    seen: set[tuple[str, str]] = set()
    pending = [Requirement(text) for text in requirements]
    while pending:
        wanted = pending.pop()
        for extra in {"", *wanted.extras}:
            key = (canonicalize_name(wanted.name), extra)
            if key not in seen:
                seen.add(key)
                needs = map(Requirement, metadata.requires(wanted.name) or ())
                pending += [need for need in needs if need.marker is None or need.marker.evaluate({"extra": extra})]
    return {name for name, _ in seen}


def modules_of(distributions: Iterable[str]) -> set[str]:
    wanted = {canonicalize_name(name) for name in distributions}
    homes = metadata.packages_distributions().items()
    return {module for module, owners in homes if wanted & {canonicalize_name(owner) for owner in owners}}


# The import, and what the face offers


def test_importing_the_package_imports_no_dependency():
    dependencies = modules_of(Requirement(text).name for text in PROJECT["dependencies"])
    assert {"torch", "transformers", "numpy", "av"} <= dependencies
    imported = python("import sys, egoinstructor; print(*{name.partition('.')[0] for name in sys.modules})").split()
    assert "egoinstructor" in imported
    assert not dependencies & set(imported)


def test_version_is_the_projects():
    assert egoinstructor.__version__ == PROJECT["version"]


@pytest.mark.parametrize("name", egoinstructor.__all__)
def test_public_name_resolves(name):
    assert getattr(egoinstructor, name) is not None
    assert name in dir(egoinstructor)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Captionner'"):
        egoinstructor.Captionner  # noqa: B018


# The base install alone is enough to import everything

CLASSES_OF_AN_EXTRA = {"egoinstructor.web.schemas"}
"""Their classes are pydantic's, which must be there when they are defined; only functions import them."""

BASE_ONLY = """
import sys
from importlib import import_module
from importlib.machinery import PathFinder

absent, modules = (text.split() for text in sys.argv[1:])

class BaseInstall(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in absent else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = BaseInstall
for module in modules:
    import_module(module)
assert not set(absent) & {name.partition(".")[0] for name in sys.modules}
"""


@pytest.fixture(scope="module")
def absent() -> str:
    """The modules installed here that the base install would not have brought."""
    everything = {distribution.name for distribution in metadata.distributions()} - {"egoinstructor"}
    base = installed_with(PROJECT["dependencies"])
    found = modules_of(name for name in everything if canonicalize_name(name) not in base) - modules_of(base)
    assert "pytest" in found
    assert not {"torch", "numpy", "yaml"} & found
    return " ".join(found)


def test_every_folder_is_a_package():
    assert {file.parent for file in FILES} == {file.parent for file in FILES if file.name == "__init__.py"}


def test_every_module_imports_with_the_base_install(absent):
    python(BASE_ONLY, absent, " ".join(module for module in MODULES if module not in CLASSES_OF_AN_EXTRA))


@pytest.mark.slow
@pytest.mark.parametrize("module", sorted({*MODULES} - CLASSES_OF_AN_EXTRA))
def test_module_imports_by_itself_with_the_base_install(module, absent):
    """In a process of its own: no module needs another to have been imported before it."""
    python(BASE_ONLY, absent, module)


# The import rule


def test_imports_go_one_way():
    done = run(Path(sys.executable).with_name("lint-imports"), "--no-cache", "--no-logo")
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_room_has_a_place_in_the_import_rule():
    (contract,) = [one for one in PYPROJECT["tool"]["importlinter"]["contracts"] if one["type"] == "layers"]
    placed = {name.strip("() ") for layer in contract["layers"] for name in re.split(r"[|:]", layer)}
    rooms = {module.split(".")[1] for module in MODULES if module.count(".")} - set(contract["exhaustive_ignores"])
    assert placed == rooms


# What pyproject.toml promises


def test_every_extra_named_in_the_source_exists():
    asked, named = [], []
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "require_extra":
                keywords = [keyword.value for keyword in node.keywords if keyword.arg == "extra"]
                (extra,) = node.args[1:2] or keywords
                assert isinstance(extra, ast.Constant), (
                    f"{file}:{node.lineno}: name the extra, so that it can be checked"
                )
                asked.append((f"{file}:{node.lineno}", extra.value))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                extras = re.findall(r"egoinstructor\[([\w,. -]+)\]", node.value)
                named += [(f"{file}:{node.lineno}", name.strip()) for text in extras for name in text.split(",")]
    assert asked
    assert [(place, extra) for place, extra in asked + named if extra not in EXTRAS] == []


def test_everything_that_ci_installs_is_pinned():
    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {canonicalize_name(line.partition("==")[0]) for line in lines if "==" in line}
    direct, pending = set(), [Requirement(text) for text in [*PROJECT["dependencies"], *EXTRAS["dev"]]]
    while pending:
        wanted = pending.pop()
        if wanted.name == PROJECT["name"]:
            pending += [Requirement(text) for extra in wanted.extras for text in EXTRAS[extra]]
        else:
            direct.add(canonicalize_name(wanted.name))
    assert direct - pinned == set()


# Commands and scripts


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_help_lists_every_command():
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    (commands,) = re.findall(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    listed = re.findall(r"^  make ([a-z0-9-]+) +\S", run("make", "help").stdout, re.MULTILINE)
    assert sorted(listed) == sorted(commands.split())
    guide = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`make ([a-z0-9-]+)`", guide)) <= set(listed)


SHELL_SCRIPTS = [".ci/run", *(str(file.relative_to(REPOSITORY)) for file in REPOSITORY.glob("scripts/**/*.sh"))]


@pytest.mark.parametrize("script", SHELL_SCRIPTS)
def test_shell_script_is_sound(script):
    shellcheck = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    checker = [shellcheck] if shellcheck else ["bash", "-n"]
    done = run(*checker, script)
    assert done.returncode == 0, done.stdout + done.stderr
    assert os.access(REPOSITORY / script, os.X_OK)
    assert "set -euo pipefail" in (REPOSITORY / script).read_text(encoding="utf-8")
