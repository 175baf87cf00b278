# SPDX-License-Identifier: GPL-2.0-only
"""Make the parts of KTAP lines from texts of patches, tools and guests, which are cleaned here."""

from __future__ import annotations

from kpatch.lib import sanitize

MESSAGE_LINES = 40


def description(name: str) -> str:
    """Return the first line of ``name`` that is not blank as the description on a result line.

    It is cleaned and cut (`sanitize.line`). "#" is replaced by "%23", since it would begin
    a directive.
    """
    return sanitize.line(name).replace("#", "%23")


def diagnostic(name: str, message: str) -> list[str]:
    """Return the lines of ``message`` as diagnostic lines, "# NAME: line".

    ``name`` is the test's `description`. Blank lines, and lines after the first MESSAGE_LINES, are
    left out.
    """
    lines = [line for line in sanitize.clean(message).splitlines() if line.strip()]
    return [f"# {name}: {line}" for line in lines[:MESSAGE_LINES]]


def tail(directive: str) -> str:
    """Return the end of a result line: " # " and ``directive``; "" if ``directive`` is empty."""
    return f" # {directive}" if directive else ""
