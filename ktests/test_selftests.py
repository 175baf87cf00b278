# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's VFIO selftests (tools/testing/selftests/vfio) on the test machine's devices."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ktests import ktap, mechanisms
from ktests.acpi import Firmware
from ktests.conftest import Measure
from ktests.mechanism import Mechanism
from ktests.pci import PciDevice

Bind = Callable[[str], PciDevice]

# ktests/init.sh mounts the programs here.
FOLDER = Path("/mnt/selftests")

KSFT_PASS, KSFT_SKIP = 0, 4

# The time limit of a test in seconds. A program ends each of its cases after at most 30 s. The 30
# cases of the largest program take a minute on a kernel with sanitizers under emulation.
LIMIT = 240

# The programs, and the names of the devices that each gets as arguments.
PROGRAMS = {
    "vfio_dma_mapping_mmio_test": ("alpha",),
    "vfio_dma_mapping_test": ("alpha",),
    "vfio_iommufd_setup_test": ("alpha",),
    "vfio_pci_device_init_perf_test": ("alpha", "beta"),
    "vfio_pci_device_test": ("alpha",),
}

# Programs that need a device which QEMU does not have, and the message that they print without it.
WITHOUT_DEVICE = {
    "vfio_pci_driver_test": "No driver found for device",  # DSA, I/OAT, Falcon, igb
    "vfio_pci_sriov_uapi_test": "SR-IOV may not be supported by the PF",
}

# The programs that the mechanisms' series add to the kernel's selftests.
OF_SERIES = {record.selftest for record in mechanisms.RECORDS.values()}


def run(name: str, *devices: PciDevice) -> tuple[int, str]:
    """Run the selftest program ``name`` with the BDFs of ``devices`` as arguments.

    Returns its exit status and its output (stdout and stderr). AssertionError if the kernel tree
    has no such program; TimeoutExpired if it does not end in time.
    """
    program = FOLDER / name
    assert program.is_file(), f"the tree has no {name}"
    argv = [str(program), *(device.bdf for device in devices)]
    # The program itself limits the time of each case. If it runs for longer, the kernel hangs.
    done = subprocess.run(
        argv,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        errors="replace",
        env={},
        timeout=LIMIT - 10,
        check=False,
    )
    return done.returncode, done.stdout


def passed(name: str, *devices: PciDevice) -> ktap.SelftestReport:
    """Run the selftest program ``name`` on ``devices`` and return its report.

    AssertionError if the report has a complaint (`SelftestReport.complaint`), or if the exit status
    is not KSFT_PASS.
    """
    status, output = run(name, *devices)
    report = ktap.parse(output)
    assert not report.complaint, f"{report.complaint}\n{output}"
    assert status == KSFT_PASS, output
    return report


@pytest.mark.requirement("REQ-INT-09")
@pytest.mark.limit(LIMIT)
@pytest.mark.parametrize("name", PROGRAMS)
def test_selftest(bind: Bind, measure: Measure, name: str) -> None:
    report = passed(name, *map(bind, PROGRAMS[name]))
    measure("cases", len(report.cases))
    measure("skipped", len(report.skipped))


@pytest.mark.requirement("REQ-INT-09")
@pytest.mark.parametrize("name", WITHOUT_DEVICE)
def test_selftest_without_its_device(bind: Bind, name: str) -> None:
    status, output = run(name, bind("alpha"))
    assert status == KSFT_SKIP, output
    assert WITHOUT_DEVICE[name] in output


@pytest.mark.requirement("REQ-INT-09")
def test_every_selftest_is_run() -> None:
    present = {path.name for path in FOLDER.iterdir()}
    assert present - OF_SERIES == set(PROGRAMS) | set(WITHOUT_DEVICE)


@pytest.mark.requirement("REQ-INT-10")
@pytest.mark.limit(LIMIT)
def test_selftest_of_the_series(
    mechanism: Mechanism, bind: Bind, firmware: Firmware, measure: Measure
) -> None:
    """Run the selftest of the mechanism's series on a device with a companion and on one without.

    No case may be skipped on both devices.
    """
    with firmware.debugger.released():
        reports = [passed(mechanism.selftest, bind(name)) for name in ("alpha", "bare")]
    measure("cases", sum(len(report.cases) for report in reports))
    measure("skipped", sum(len(report.skipped) for report in reports))
    assert not set.intersection(*(report.skipped for report in reports))
