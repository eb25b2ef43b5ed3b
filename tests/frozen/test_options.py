"""Names, defaults and choices of every command's options are those recorded; help texts are free to change."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import Any

from egoinstructor.cli import build_parser
from egoinstructor.training import original_command
from egoinstructor.training.arguments import CaptionerTrainingArguments, DataArguments, ModelArguments
from egoinstructor.training.retriever_arguments import (
    RetrieverDataArguments,
    RetrieverModelArguments,
    RetrieverTrainingArguments,
)


def options_of(parser: argparse.ArgumentParser, command: str) -> dict[str, Any]:
    """The options of a command and of the commands below it, by command."""
    options, below = {}, {}
    for action in parser._actions:  # argparse has no public list of them
        if isinstance(action, argparse._SubParsersAction):
            for name, nested in action.choices.items():
                below |= options_of(nested, f"{command} {name}")
        elif not isinstance(action, argparse._HelpAction | argparse._VersionAction):
            facts = {
                "nargs": action.nargs,
                "default": None if action.default == argparse.SUPPRESS else action.default,
                "choices": action.choices and list(action.choices),
                "required": (action.required and bool(action.option_strings)) or None,
                "repeat": isinstance(action, argparse._AppendAction) or None,
            }
            name = ", ".join(action.option_strings) or action.metavar or action.dest
            options[name] = {key: value for key, value in facts.items() if value is not None}
    return {command: options} | below


def own_fields(*kinds: type) -> dict[str, Any]:
    """The fields of dataclasses that our classes declare, without those of transformers'."""
    found = {}
    for kind in kinds:
        ours = [k for k in reversed(kind.__mro__) if k.__module__.startswith("egoinstructor.")]
        types = {name: annotation for k in ours for name, annotation in k.__annotations__.items()}
        defaults = {field.name: field.default for field in dataclasses.fields(kind)}
        found |= {f"--{name}": {"type": str(types[name]), "default": defaults[name]} for name in types}
    return found


def test_options(same_as_recorded):
    options = options_of(build_parser(), "egoinstructor") | options_of(original_command.build_parser(), "main.py")
    options["egoinstructor train"] |= own_fields(ModelArguments, DataArguments, CaptionerTrainingArguments)
    options["egoinstructor train --task retriever"] = own_fields(
        RetrieverModelArguments, RetrieverDataArguments, RetrieverTrainingArguments
    )
    lines = []
    for command, given in options.items():
        rows = ",\n".join(f"  {json.dumps(name)}: {json.dumps(facts)}" for name, facts in given.items())
        lines.append(f"{json.dumps(command)}: {{\n{rows}\n}}")
    same_as_recorded("options.json", "{\n" + ",\n".join(lines) + "\n}\n")
