# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Vectors for a relay in another language: words of the eventfd, and the actions on each.

``python -m uapi.vmm.vectors > uapi/vmm/golden/relay.json`` writes them again. docs/vmm.md describes
the format.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from ..notification import LOST_MAX, LOST_SHIFT, RESERVED, VALID, Notification, encode
from .relay import Action, Policy, Relay, Stop

SCHEMA_VERSION = 1

POLICIES = {
    "default": Policy(),
    "eight-bits": Policy(widest=0xFF),
    "gpu": Policy(first=0xC0, widest=0xDF, resync=0xC0),
}

VALUES = (
    *(0, 1, 3, 0x7F, 0x80, 0xBF, 0xC0, 0xD1, 0xD5, 0xDF, 0xE0, 0xFF, 0x100, 0x181),
    *(0xFFFF, 0x10000, 0x10003, 0x100D1, 0xFFFFFFFF),
)
LOSSES = (0, 1, LOST_MAX)

# Words that no kernel with these series writes: without VALID, or with reserved bits.
ODD = (0, 1, 0xD1, LOST_MAX << LOST_SHIFT, 1 << 33, VALID | RESERVED | 0xD1, (1 << 64) - 1)


def words() -> list[int]:
    """Return the words of the vectors."""
    sane = [
        encode(Notification(value, loopback, lost))
        for value in VALUES
        for lost in LOSSES
        for loopback in (False, True)
    ]
    return [*sane, *ODD]


def document() -> dict[str, Any]:
    """Return the vectors as JSON data."""
    return {
        "schema_version": SCHEMA_VERSION,
        "license": "GPL-2.0-only OR MIT",
        "policies": {name: asdict(policy) for name, policy in POLICIES.items()},
        "vectors": [
            {
                "policy": name,
                "word": f"{word:#018x}",
                "actions": [_action(action) for action in Relay(policy).take_word(0, word)],
            }
            for name, policy in POLICIES.items()
            for word in words()
        ],
    }


def text() -> str:
    """Return the vectors as JSON text, one vector a line."""
    made = document()
    vectors = ",\n".join(f"  {json.dumps(vector)}" for vector in made.pop("vectors"))
    lines = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in made.items()]
    return "{\n" + ",\n".join([*lines, f' "vectors": [\n{vectors}\n ]']) + "\n}\n"


def _action(action: Action) -> dict[str, Any]:
    """Return an action without its slot. The text of a stop's cause is for people, so left out."""
    left_out = {"slot", "cause"} if isinstance(action, Stop) else {"slot"}
    fields = {name: value for name, value in asdict(action).items() if name not in left_out}
    return {"action": type(action).__name__.lower(), **fields}


if __name__ == "__main__":
    print(text(), end="")
