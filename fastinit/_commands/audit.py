"""`fastinit audit`: whether a scheme suits the model that a function builds."""

from __future__ import annotations

import argparse
import ast
import importlib
import os
import sys
from typing import Any

import fastinit
from fastinit import Scheme
from fastinit._commands import console
from fastinit._commands.files import Refused, check_writable, write

_SCHEMES = "keras_like, torch_like, gpt2_like(12), or package.module:scheme"


def run(args: argparse.Namespace) -> int:
    check_writable(args.json)
    sys.path.insert(0, os.getcwd())  # as `python -m` has it
    build, scheme = _named(args.target), _scheme(args.scheme)
    try:
        found = fastinit.audit(build, scheme, seed=args.seed, allow=args.allow)
    except (TypeError, ValueError) as error:
        raise Refused(f"{args.target}: {error}") from error
    print(f"{found:{console.width() or ''}}")
    if args.json:
        write(args.json, found.json() + "\n")
    return 0 if found.clean else 1


def _named(target: str) -> Any:
    """What "package.module:name" names."""
    module, _, path = target.partition(":")
    if not module or not path:
        raise Refused(f"expected package.module:name. Received: {target!r}. Pass e.g. mymodels.gpt:build.")
    try:
        found = importlib.import_module(module)
        for name in path.split("."):
            found = getattr(found, name)
    except (ImportError, AttributeError) as error:
        raise Refused(f"{target} is not there: {error}. Run it where `import {module}` works.") from error
    return found


def _scheme(text: str) -> Scheme:
    """A scheme by its name: the package's, with numbers as its arguments; or one of the user's, or a function that makes it."""
    try:
        found = _named(text) if ":" in text else _ready(text)
        found = found if isinstance(found, Scheme) else found()
    except (TypeError, ValueError, SyntaxError) as error:
        raise Refused(f"--scheme {text}: {error}. Pass one of {_SCHEMES}.") from error
    if not isinstance(found, Scheme):
        raise Refused(f"--scheme {text} is no fastinit.Scheme, but {type(found).__name__}. Pass one of {_SCHEMES}.")
    return found


def _ready(text: str) -> Any:
    """A scheme that comes with the package, as one would write it: ``gpt2_like(12, std=0.01)``."""
    call = ast.parse(text, mode="eval").body
    name, given = (call.func, call) if isinstance(call, ast.Call) else (call, None)
    if not isinstance(name, ast.Name) or name.id not in fastinit.__all__ or not name.id.endswith("_like"):
        raise ValueError("it is no scheme of this package")
    found = getattr(fastinit, name.id)
    if given is None:
        return found
    keywords = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in given.keywords}
    return found(*map(ast.literal_eval, given.args), **keywords)
