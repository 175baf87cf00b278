# SPDX-License-Identifier: GPL-2.0-only
"""Make the parts of a line of KTAP, with text from patches, tools and guests made safe."""

from __future__ import annotations

from kpatch.lib import sanitize

MESSAGE_LINES = 40


def description(name: str) -> str:
    """Return ``name`` for a result line, changed so that no "#" in it begins a directive."""
    return sanitize.line(name).replace("#", "%23")


def diagnostic(name: str, message: str) -> list[str]:
    """Return diagnostic lines with ``message`` for the test that ``description`` calls ``name``."""
    lines = [line for line in sanitize.clean(message).splitlines() if line.strip()]
    return [f"# {name}: {line}" for line in lines[:MESSAGE_LINES]]


def tail(directive: str) -> str:
    """Return the end of a result line: nothing, or " # " and the directive."""
    return f" # {directive}" if directive else ""
