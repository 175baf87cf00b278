# SPDX-License-Identifier: GPL-2.0-only
"""Make the objects of KCIDB's I/O schema 5.3 (kernelci.org): checkouts, builds and tests.

The schema is that of the package kcidb-io, with which tests validate what is made here. ``ORIGIN``
is the name of the CI system: who submits under another one replaces it in "origin" and before the
colon of each id.
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
"""Characters of an excerpt of a log."""

_COMMIT = re.compile(r"[0-9a-f]{40}")
_MAIL = re.compile(r"[!-~]{1,200}@[!-~]{1,200}")


@dataclass(frozen=True)
class Source:
    """What was tested: a series, "" for a tree without one, on the tree ``kernel``.

    ``series`` is a digest of its content, ``patches`` the SHA-256 of each patch, None if unknown.
    ``started`` is when it was taken, UTC in ISO 8601.
    """

    kernel: KernelInfo
    series: str
    title: str
    started: str
    patches: tuple[str, ...] | None = None
    message_id: str = ""


def identifier(*parts: str) -> str:
    """Return an id of this origin, a digest of ``parts``."""
    digest = hashlib.sha256("\0".join(parts).encode(errors="replace")).hexdigest()
    return f"{ORIGIN}:{digest[:32]}"


def path(*names: str) -> str:
    """Return the path of a test: names joined by dots, of letters, digits, "_" and "-"."""
    return ".".join(re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_") or "_" for name in names)


def document(
    checkouts: Iterable[dict[str, Any]],
    builds: Iterable[dict[str, Any]],
    tests: Iterable[dict[str, Any]],
) -> str:
    """Return the JSON text of a report with these objects."""
    report = {
        "version": VERSION,
        "checkouts": list(checkouts),
        "builds": list(builds),
        "tests": list(tests),
    }
    return json.dumps(report, indent=1) + "\n"


def checkout(source: Source) -> dict[str, Any]:
    """Return the checkout of ``source``."""
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
    """Return a build of the checkout, without its status."""
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
    """Return a test of the build: ``at`` its path, ``key`` what tells it from others at the path.

    ``status`` is one of the schema's, ``log`` what it printed.
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
