"""Initializers and rules in words, for a scheme's repr and for reports."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch

from fastinit._core.laws import Initializer
from fastinit._initializers.layouts import laid_out_
from fastinit._schemes.padding import zero_row_
from fastinit._schemes.rules import Rule


def name_of(value: object) -> str:
    """An initializer in words, as one would write the call."""
    if isinstance(value, partial):
        if value.func is zero_row_:
            return f"{name_of(value.keywords['initializer'])}, row {value.keywords['row']} zero"
        if value.func is laid_out_:
            return _name_in_layout(**value.keywords)
        arguments = [repr(x) for x in value.args] + [f"{k}={name_of(v)}" for k, v in value.keywords.items()]
        return f"{name_of(value.func)}({', '.join(arguments)})"
    return getattr(value, "__name__", None) or repr(value)


def _name_in_layout(initializer: Initializer, layout: str, sizes: Mapping[str, int], **source: Any) -> str:
    inner = name_of(partial(initializer, **source) if source else initializer)
    return f"in_layout({', '.join([inner, repr(layout), *(f'{word}={size}' for word, size in sizes.items())])})"


@functools.lru_cache
def name_of_dtype(dtype: torch.dtype) -> str:
    """Such as "float32"."""
    return str(dtype).removeprefix("torch.")


def name_of_rule(rule: Rule) -> str:
    """The rule of a module type in words."""
    if isinstance(rule, Mapping):
        return "{" + ", ".join(f"{name!r}: {name_of(initializer)}" for name, initializer in rule.items()) + "}"
    return name_of(rule)


def function_of(rule: object) -> object:
    """The function of a rule that takes the module, without what a partial gives it: a table has no room for that."""
    return rule.func if isinstance(rule, partial) else rule
