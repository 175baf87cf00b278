# SPDX-License-Identifier: GPL-2.0-only
"""The detection of the mechanism: the result for each set of signs, and the signs examined.

On real kernels, carried series given as mailboxes: tests/test_bad_input.py.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ktests.detection import Detection, conclude, detect, signs
from ktests.mechanism import Sign, Site

INDEX = "index 5 has flags 0x9 and count 1, and its loopback reads 0x300000000"
FEATURE = "feature 14 is there, and its loopback reads flags 0x1, sequence 0, value 0x81"
ACK = INDEX.replace("0x9", "0x7")
COUNT = "index 5 has flags 0x9 and count 1, and its loopback reads 0x1"
DOORBELL = f"{COUNT}, and feature 15 ends with ENOMSG"
EVENT = "acpi_event has class vfio_pci and type 0x81"


def test_what_touches_the_least_is_looked_at_first() -> None:
    first = ["ack", "doorbell", "eventfd", "eventfd-count", "eventq"]
    assert list(signs()) == [*first, "netlink-device", "netlink"]
    assert [sign.rank for sign in signs().values()] == [0] * len(first) + [1, 2]


def test_no_two_mechanisms_have_the_same_sign() -> None:
    assert len({sign.text for sign in signs().values()}) == len(signs())


def of_index(text: str) -> dict[str, str]:
    """What the mechanisms with the index see: they look at it with one function."""
    names = ("ack", "doorbell", "eventfd", "eventfd-count")
    assert len({signs()[name].look for name in names}) == 1
    return dict.fromkeys(names, text)


@pytest.mark.parametrize(
    ("seen", "mechanism", "how"),
    [
        (
            {"eventfd": "", "netlink": ""},
            "undetected",
            "index 5 is not there; a Notify of 0x81 causes no event of the device",
        ),
        ({"eventfd": INDEX, "netlink": ""}, "eventfd", INDEX),
        (of_index(INDEX), "eventfd", INDEX),
        (of_index(ACK), "ack", ACK),
        (of_index(ACK.replace("0x300000000", "0x1")), "unknown", None),
        (of_index(COUNT), "eventfd-count", COUNT),
        (of_index(DOORBELL), "doorbell", DOORBELL),
        (of_index(DOORBELL.replace("ENOMSG", "EINVAL")), "unknown", None),
        (of_index("feature 15 ends with ENOMSG"), "unknown", None),
        (of_index(COUNT) | {"eventq": FEATURE}, "unknown", f"{COUNT}; {FEATURE}"),
        ({"eventfd": "", "netlink": EVENT}, "netlink", EVENT),
        ({"eventfd": INDEX}, "eventfd", INDEX),
        ({"eventfd": "", "eventq": FEATURE, "netlink": ""}, "eventq", FEATURE),
        ({"eventfd": INDEX, "eventq": FEATURE}, "unknown", f"{INDEX}; {FEATURE}"),
        ({"eventq": FEATURE.replace("sequence 0", "sequence 1")}, "unknown", None),
        ({"eventfd": INDEX, "netlink": EVENT}, "unknown", f"{INDEX}; {EVENT}"),
        # A sign that no mechanism has means an unknown uAPI, whatever other signs there are.
        (
            {"eventfd": INDEX.replace("0x300000000", "0x2"), "netlink": ""},
            "unknown",
            INDEX.replace("0x300000000", "0x2"),
        ),
        ({"eventfd": INDEX.replace("0x9", "0xb"), "netlink": EVENT}, "unknown", None),
        ({"eventfd": "", "netlink": EVENT.replace("vfio_pci", "vfio")}, "unknown", None),
    ],
)
def test_conclude(seen: dict[str, str], mechanism: str, how: str | None) -> None:
    found = conclude(seen)
    assert found.mechanism == mechanism
    assert how is None or found.how == how


SITE: Any = object()


def made_up(index: str, event: str) -> tuple[list[str], dict[str, Sign]]:
    """Signs that keep the names of those that were looked at."""
    looked: list[str] = []

    def sign(name: str, text: str) -> Sign:
        def look(site: Site) -> str:
            assert site is SITE
            looked.append(name)
            if text == "breaks":
                raise OSError(22, "Invalid argument")
            return text

        return replace(signs()[name], look=look)

    return looked, {"eventfd": sign("eventfd", index), "netlink": sign("netlink", event)}


@pytest.mark.parametrize(
    ("declared", "index", "event", "looked", "mechanism"),
    [
        ("undetected", INDEX, "", ["eventfd", "netlink"], "eventfd"),
        ("undetected", "", "", ["eventfd", "netlink"], "undetected"),
        # No notification is sent if it cannot show a contradiction.
        ("eventfd", INDEX, EVENT, ["eventfd"], "eventfd"),
        ("netlink", "", EVENT, ["eventfd"], "undetected"),
        ("eventfd", "", EVENT, ["eventfd", "netlink"], "netlink"),
        ("netlink", INDEX, "", ["eventfd", "netlink"], "eventfd"),
        ("undetected", "breaks", EVENT, ["eventfd", "netlink"], "unknown"),
    ],
)
def test_looks(declared: str, index: str, event: str, looked: list[str], mechanism: str) -> None:
    made, table = made_up(index, event)
    assert detect(SITE, declared, table).mechanism == mechanism
    assert made == looked


def test_a_look_that_fails_is_told() -> None:
    _, table = made_up("breaks", "")
    assert detect(SITE, "undetected", table) == Detection(
        "unknown", "the look for eventfd fails: [Errno 22] Invalid argument"
    )


def test_a_shared_look_is_taken_once() -> None:
    looked: list[Site] = []

    def look(site: Site) -> str:
        looked.append(site)
        return COUNT

    table = {
        name: replace(signs()[name], look=look)
        for name in ("ack", "doorbell", "eventfd", "eventfd-count")
    }
    assert detect(SITE, "undetected", table) == Detection("eventfd-count", COUNT)
    assert len(looked) == 1
