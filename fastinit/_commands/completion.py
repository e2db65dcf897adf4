"""`fastinit completion`: the code by which a shell completes the command's arguments, by shtab."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from fastinit import _cli
from fastinit._commands import console

_FILES = ("FILE", "PNG")  # metavars


def run(args: argparse.Namespace) -> int:
    console.require("shtab", extra="completion")
    import shtab

    top = _cli.parser()
    for action in _actions(top):
        if action.metavar in _FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    print(shtab.complete(top, args.shell))
    return 0


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """The actions of a parser and of its commands."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)
