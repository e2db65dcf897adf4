"""`fastinit completion`: the code by which a shell completes the command's arguments, by shtab."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator

from fastinit._commands import console
from fastinit._commands.peers import DTYPES, WORKS
from fastinit._commands.zoo import MODELS

_FILES = ("FILE", "PNG")  # metavars
# The first name of a list; to parse, lists take several.
_CHOICES: dict[str, Iterable[str]] = {"functions": WORKS, "dtypes": DTYPES, "models": MODELS, "devices": ("cpu", "cuda")}


def run(args: argparse.Namespace) -> int:
    console.require("shtab", extra="completion")
    import shtab

    for action in _actions(args.parser):
        if action.metavar in _FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif action.dest in _CHOICES:
            action.choices = list(_CHOICES[action.dest])
    print(shtab.complete(args.parser, args.shell))
    return 0


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """The actions of a parser and of its commands."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)
