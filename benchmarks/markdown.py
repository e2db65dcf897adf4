"""What generated tables have in common: markdown, numbers as text, and a line about the machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Markdown, with figures on the right."""
    rule = ["---:" if text[:1].isdigit() else "---" for text in (lines or [head])[0]]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *lines))


def significant(x: float) -> str:
    """Two digits after the point below 10, none from 100 on."""
    return f"{x:.2f}" if x < 10 else f"{x:.1f}" if x < 100 else f"{x:,.0f}"


def spread(ratio: dict[str, float]) -> str:
    """The median, and the 20th and 80th percentile."""
    return f"{significant(ratio['p50'])} ({significant(ratio['p20'])} to {significant(ratio['p80'])})"


def power(elements: int) -> str:
    exponent = elements.bit_length() - 1
    return f"2^{exponent}" if elements == 1 << exponent and exponent > 10 else f"{elements:,}"


def place(about: dict[str, Any]) -> str:
    """The processor, its cores, and its instruction set where fastinit uses one."""
    return f"{about['cpu']}, {about['cores']} cores, {(about['isa'] or 'no native library').upper()}"


def commit_text(about: dict[str, Any]) -> str:
    return f", commit {about['commit'][:12]}{'-dirty' * about['commit'].endswith('-dirty')}" if about["commit"] else ""
