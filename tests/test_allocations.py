# SPDX-License-Identifier: GPL-2.0-only
"""The memory that the carried series allocate: what a user of a device can trigger is charged.

GFP_KERNEL_ACCOUNT charges memory to the control group of the process. The source is examined here;
REQ-ISO-60 is about a running kernel, which has to be of the flavor hypervisor.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from kpatch.series import catalog
from tests.carried import CARRIED_KERNELS

ALLOCATION = re.compile(r"^\+\t+(\w+) = (kv?[mz]alloc\w*\(.*)$", re.MULTILINE)

UNCHARGED = {
    "companion": "one small structure for each companion, which outlives its first user",
    "netlink": "allocated when a device is bound, which takes an administrator",
    "genl": "allocated when a device is bound, which takes an administrator",
    "cap": "freed before the ioctl returns",
}


def allocations(base: str, name: str) -> Iterator[tuple[str, str]]:
    """Yield the variable and the call of each allocation that the series adds to ``base``."""
    for mailbox in catalog.load(name, base).mailboxes:
        yield from ALLOCATION.findall(mailbox.read_text(encoding="utf-8"))


@pytest.mark.parametrize(("base", "name"), CARRIED_KERNELS)
def test_charged(base: str, name: str) -> None:
    found = dict(allocations(base, name))
    assert "companion" in found, "the pattern no longer finds allocations"
    charged = {variable for variable, call in found.items() if "GFP_KERNEL_ACCOUNT" in call}
    assert found.keys() - charged == found.keys() & UNCHARGED.keys()
