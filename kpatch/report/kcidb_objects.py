# SPDX-License-Identifier: GPL-2.0-only
"""Make the objects of KCIDB's I/O schema 5.3 (kernelci.org): checkouts, builds and tests.

The project's tests validate the objects with the schema in the package kcidb-io. ``ORIGIN`` is the
name of the CI system. To submit results as another CI system, replace that name in "origin" and in
the part of each id before the colon.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from kpatch.lib import sanitize
from kpatch.report.result import KernelInfo

ORIGIN = "vfio_acpi"
VERSION = {"major": 5, "minor": 3}
ARCHITECTURE = "x86_64"

EXCERPT = 16384
"""Largest number of characters of a test's "log_excerpt" in the schema."""

_COMMIT = re.compile(r"[0-9a-f]{40}")
_MAIL = re.compile(r"[!-~]{1,200}@[!-~]{1,200}")


@dataclass(frozen=True)
class Source:
    """The tested source: the tree ``kernel`` with a series or without one.

    ``series`` is a digest of the series' content, or its name if there is none. ``title`` describes
    the series. ``patches`` has the SHA-256 of each patch: () without a series, None if unknown.
    ``started`` is the time when the run began, UTC in ISO 8601. ``message_id`` is the Message-ID of
    the mail that begins the series' thread, "" if there is none.
    """

    kernel: KernelInfo
    series: str
    title: str
    started: str
    patches: tuple[str, ...] | None = None
    message_id: str = ""


def identifier(*parts: str) -> str:
    """Return the id of an object: ORIGIN, a colon, and a digest of ``parts``."""
    digest = hashlib.sha256("\0".join(parts).encode(errors="replace")).hexdigest()
    return f"{ORIGIN}:{digest[:32]}"


def path(*names: str) -> str:
    """Return the path of a test: ``names`` joined by dots.

    In a name, each run of characters other than letters, digits, "_" and "-" becomes one "_", and
    "_" at either end is removed. A name of which nothing is left becomes "_".
    """
    return ".".join(re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_") or "_" for name in names)


def document(
    checkouts: Iterable[dict[str, Any]],
    builds: Iterable[dict[str, Any]],
    tests: Iterable[dict[str, Any]],
) -> str:
    """Return the JSON text of a KCIDB report with these checkouts, builds and tests."""
    report = {
        "version": VERSION,
        "checkouts": list(checkouts),
        "builds": list(builds),
        "tests": list(tests),
    }
    return json.dumps(report, indent=1) + "\n"


def checkout(source: Source) -> dict[str, Any]:
    """Return the KCIDB checkout of ``source``; its id depends on tree, series and start time."""
    made: dict[str, Any] = {
        "id": identifier("checkout", source.kernel.tree_id, source.series, source.started),
        "origin": ORIGIN,
        "comment": sanitize.line(f"Linux {source.kernel.version}, {source.title}"),
        "start_time": source.started,
        "valid": True,
        "misc": {"tree_id": source.kernel.tree_id, "delta_id": source.series},
    }
    commit = source.kernel.origin.get("commit", "")
    if _COMMIT.fullmatch(commit):
        made["git_commit_hash"] = commit
    if source.patches is not None:
        lines = "".join(f"{one}\n" for one in source.patches)
        made["patchset_hash"] = hashlib.sha256(lines.encode()).hexdigest() if lines else ""
    if _MAIL.fullmatch(source.message_id):
        made["message_id"] = source.message_id
    return made


def build(checkout_id: str, *, config: str, config_id: str, compiler: str) -> dict[str, Any]:
    """Return a KCIDB build of the checkout with the id ``checkout_id``; it has no status.

    ``config`` is the name of the config (a flavor), ``config_id`` the id of its content.
    ``compiler`` has the version lines of compiler and linker.
    """
    return {
        "id": identifier("build", checkout_id, config, config_id),
        "checkout_id": checkout_id,
        "origin": ORIGIN,
        "architecture": ARCHITECTURE,
        "compiler": sanitize.line(compiler),
        "config_name": sanitize.line(config),
        "misc": {"config_id": config_id},
    }


def test(
    build_id: str, at: str, *, key: str, status: str, log: str, seconds: float | None = None
) -> dict[str, Any]:
    """Return a KCIDB test of the build with the id ``build_id``.

    ``at`` is the test's path, made by `path`. ``key`` distinguishes the test from others with the
    same path, and is its comment. ``status`` is a status of the schema ("PASS"). ``log`` is the
    test's output, of which the first EXCERPT characters are kept. ``seconds`` is its duration, None
    if unknown.
    """
    made: dict[str, Any] = {
        "id": identifier("test", build_id, at, key),
        "build_id": build_id,
        "origin": ORIGIN,
        "path": at,
        "status": status,
        "comment": sanitize.line(key),
    }
    excerpt = sanitize.clean(log)[:EXCERPT]
    if excerpt:
        made["log_excerpt"] = excerpt
    if seconds is not None:
        made["duration"] = seconds
    return made
