"""README and docs keep their word: commands parse, links lead somewhere."""

from __future__ import annotations

import dataclasses
import re
import shlex
from pathlib import Path

import pytest

from egoinstructor.cli import build_parser

REPOSITORY = Path(__file__).resolve().parents[1]
NAMES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/RESULTS.md")
PAGES = [REPOSITORY / name for name in NAMES] + sorted((REPOSITORY / "docs").glob("*.md"))


def commands(page: Path) -> list[list[str]]:
    """The `egoinstructor` commands in a page's code blocks."""
    found = []
    for block in re.findall(r"^```(?:bash)?\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            for part in line.split("&&"):
                if not re.match(r"\s*egoinstructor |.* -m egoinstructor ", part):
                    continue
                words = shlex.split(part, comments=True)
                if words[:1] == ["egoinstructor"]:
                    found.append(words[1:])
                elif "-m" in words and words[words.index("-m") + 1 :][:1] == ["egoinstructor"]:
                    found.append(words[words.index("-m") + 2 :])
    return found


def training_options() -> dict[str, set[str]]:
    """By the page that lists them."""
    from egoinstructor.training import arguments, retriever_arguments

    captioner = (arguments.ModelArguments, arguments.DataArguments, arguments.CaptionerTrainingArguments)
    retriever = (
        retriever_arguments.RetrieverModelArguments,
        retriever_arguments.RetrieverDataArguments,
        retriever_arguments.RetrieverTrainingArguments,
    )
    return {
        page: {f.name for kind in kinds for f in dataclasses.fields(kind)}
        for page, kinds in (("docs/training.md", captioner), ("docs/retriever.md", retriever))
    }


def test_there_are_commands_to_check():
    assert len([command for page in PAGES for command in commands(page)]) >= 8


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_parse(page):
    for command in commands(page):
        arguments, more = build_parser().parse_known_args(command)
        assert not more or hasattr(arguments, "overrides"), more
        assert {word.removeprefix("--") for word in more if word.startswith("--")} <= set().union(
            {"task"}, *training_options().values()
        )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= anchors


@pytest.mark.parametrize("page", ["docs/training.md", "docs/retriever.md"])
def test_every_training_option_of_ours_is_documented(page):
    from transformers import TrainingArguments

    text = (REPOSITORY / page).read_text(encoding="utf-8")
    ours = training_options()[page] - {f.name for f in dataclasses.fields(TrainingArguments)}
    assert sorted(name for name in ours if f"`{name}`" not in text) == []
