# SPDX-License-Identifier: GPL-2.0-only
"""The rules that host and guest agree upon: data and pure functions, imported by both."""

from __future__ import annotations

from collections.abc import Collection

NONE = "none"
"""Mechanism of the unpatched kernel, the negative control."""

UNDETECTED = "undetected"
"""Mechanism of a kernel in which no sign of any mechanism was seen, or was looked for yet."""

UNKNOWN = "unknown"
"""Mechanism of a kernel with a uAPI that no mechanism of the table has."""

UNJUDGED = frozenset({UNDETECTED, UNKNOWN})
"""Of a kernel with one of these only what every kernel promises is judged."""

ANY = "any"
"""What a requirement needs that every kernel meets, patched or not."""

DETECTION = "detection"
"""Name of the detection among the markers in the kernel's log, where tests have their ids."""


def promised(needs: Collection[str], mechanism: str) -> bool:
    """Return whether a kernel with ``mechanism`` has to meet a requirement that ``needs`` these.

    A kernel without any sign of a mechanism promises what the unpatched one does.
    """
    return ANY in needs or (NONE if mechanism == UNDETECTED else mechanism) in needs


def applies(needs: Collection[str], mechanism: str) -> bool:
    """Return whether the tests of a requirement run on a kernel with ``mechanism``.

    All run on the negative control, where those of a mechanism have to fail.
    """
    return mechanism == NONE or promised(needs, mechanism)
