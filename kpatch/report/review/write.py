# SPDX-License-Identifier: GPL-2.0-only
"""Write a review to its output folder; ``FORMATS`` has a row for each file."""

from __future__ import annotations

from collections.abc import Callable

from kpatch.report.output_dir import OutputDir
from kpatch.report.review import record, text
from kpatch.report.review.record import Review

REVIEW = "review.json"

FORMATS: dict[str, Callable[[Review], str]] = {
    "report.txt": text.render,  # for a mail
    # Everything, for programs. The last one: a reader that finds it finds the others too.
    REVIEW: record.dump,
}
"""The files of a review, in the order in which they are written: name, and what makes them."""


def write(output: OutputDir, review: Review) -> None:
    """Write every file of ``FORMATS``; HarnessError (exit 7) if it cannot be written."""
    contents = {name: render(review) for name, render in FORMATS.items()}
    for name, content in contents.items():
        output.write(name, content)
