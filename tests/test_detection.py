# SPDX-License-Identifier: GPL-2.0-only
"""The detection of the mechanism: what the signs amount to, and which looks are made for it.

On real kernels, carried series given as mailboxes: tests/test_bad_input.py.
"""

from __future__ import annotations

from typing import Any

import pytest

from kpatch.tables.mechanisms import MECHANISMS
from ktests import detection
from ktests.detection import SIGNS, Detection, Sign, conclude, detect

INDEX = "index 5 has flags 0x9 and count 1, and its loopback reads 0x300000000"
EVENT = "acpi_event has class vfio_pci and type 0x81"


def test_every_mechanism_has_one_sign() -> None:
    assert sorted(sign.mechanism for sign in SIGNS) == sorted(MECHANISMS)


@pytest.mark.parametrize(
    ("seen", "mechanism", "how"),
    [
        (
            {"eventfd": "", "netlink": ""},
            "undetected",
            "index 5 is not there; a Notify of 0x81 causes no event of the device",
        ),
        ({"eventfd": INDEX, "netlink": ""}, "eventfd", INDEX),
        ({"eventfd": "", "netlink": EVENT}, "netlink", EVENT),
        ({"eventfd": INDEX}, "eventfd", INDEX),
        ({"eventfd": INDEX, "netlink": EVENT}, "unknown", f"{INDEX}; {EVENT}"),
        # What no mechanism has is an unknown uAPI, whatever else is there.
        (
            {"eventfd": INDEX.replace("0x300000000", "0x1"), "netlink": ""},
            "unknown",
            INDEX.replace("0x300000000", "0x1"),
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


def signs(index: str, event: str) -> tuple[list[str], tuple[Sign, ...]]:
    """Signs that keep the names of those that were looked at."""
    looked: list[str] = []

    def sign(of: Sign, text: str) -> Sign:
        def look(site: detection.Site) -> str:
            assert site is SITE
            looked.append(of.mechanism)
            if text == "breaks":
                raise OSError(22, "Invalid argument")
            return text

        return Sign(of.mechanism, look, of.text, of.absent)

    return looked, tuple(sign(of, text) for of, text in zip(SIGNS, (index, event), strict=True))


@pytest.mark.parametrize(
    ("declared", "index", "event", "looked", "mechanism"),
    [
        ("undetected", INDEX, "", ["eventfd", "netlink"], "eventfd"),
        ("undetected", "", "", ["eventfd", "netlink"], "undetected"),
        # Nothing is notified where that cannot show a contradiction.
        ("eventfd", INDEX, EVENT, ["eventfd"], "eventfd"),
        ("netlink", "", EVENT, ["eventfd"], "undetected"),
        ("eventfd", "", EVENT, ["eventfd", "netlink"], "netlink"),
        ("netlink", INDEX, "", ["eventfd", "netlink"], "eventfd"),
        ("undetected", "breaks", EVENT, ["eventfd", "netlink"], "unknown"),
    ],
)
def test_looks(declared: str, index: str, event: str, looked: list[str], mechanism: str) -> None:
    made, table = signs(index, event)
    assert detect(SITE, declared, table).mechanism == mechanism
    assert made == looked


def test_a_mechanism_is_a_row_of_the_table() -> None:
    other = Sign("eventq", lambda site: "it is there", "it is there", "it is not there")
    assert detect(SITE, "undetected", [other]) == Detection("eventq", "it is there")
    absent = Sign("eventq", lambda site: "", "it is there", "it is not there")
    assert detect(SITE, "undetected", [absent]) == Detection("undetected", "it is not there")


def test_a_look_that_fails_is_told() -> None:
    _, table = signs("breaks", "")
    assert detect(SITE, "undetected", table) == Detection(
        "unknown", "the look for eventfd fails: [Errno 22] Invalid argument"
    )
