# SPDX-License-Identifier: GPL-2.0-only
"""Write a review to its output folder; ``FORMATS`` has a row for each file."""

from __future__ import annotations

from collections.abc import Callable

from kpatch.report.output_dir import OutputDir
from kpatch.report.review import gitlab, html, junit, kcidb, ktap, markdown, record, sarif, text
from kpatch.report.review.record import Review

REVIEW = "review.json"

FORMATS: dict[str, Callable[[Review], str | bytes]] = {
    "report.txt": text.render,  # for a mail
    "report.html": html.render,  # for a browser
    "report.md": markdown.render,  # for the summary of a job at GitHub
    "junit.xml": junit.render,  # for CI systems
    "results.ktap": ktap.render,  # for the kernel's own tools
    "kcidb.json": kcidb.render,  # for kernelci.org
    "report.sarif": sarif.render,  # for code scanning at GitHub, and for editors
    "gl-code-quality-report.json": gitlab.render,  # for merge requests at GitLab
    # Everything, for programs (the schema is review.schema.json). It is written last: a reader that
    # finds this file finds the others too.
    REVIEW: record.dump,
}
"""The functions that make the files of a review, by file name, in the order of writing."""

SHOWN = ("report.html", REVIEW)
"""The files that ``kpatch check`` names at its end: one for a person, one for a program."""


def write(output: OutputDir, review: Review) -> None:
    """Write every file of ``FORMATS`` to ``output``.

    HarnessError: exit 7 if a file cannot be written, exit 2 if it is there and not of this run.
    """
    contents = {name: render(review) for name, render in FORMATS.items()}
    for name, content in contents.items():
        output.write(name, content)
