# SPDX-License-Identifier: GPL-2.0-only
"""The vectors in C and Rust that are made from the golden JSON, and the index of names.

The bindings that they check here are made from the Python mirror, and compiled: gcc and rustc
compute the layouts.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from kpatch.abi import check
from tests.commandline import ROOT
from uapi import names, vectors
from uapi.vectors import FILES, FOLDER, macro

GOLDEN = vectors.kernels()
OLDEST, NEWEST = "6.1-base", "7.3-eventq"
INDEX = json.loads((FOLDER / "names.json").read_text())

RUST_TYPES = {
    **{f"uint{bits}_t": f"u{bits}" for bits in (8, 16, 32, 64)},
    "int32_t": "i32",
    "char": "i8",
}
MEMBER = re.compile(r"(?:struct )?(\w+) (\w+)(?:\[(\d*)\])?;")


def declared(kernel: str) -> tuple[dict[str, int | str], dict[str, str]]:
    """Return the constants and structures of the mirror for the kernel."""
    base, _, series = kernel.partition("-")
    mechanism = "none" if series == "base" else series
    return names.constants(base, mechanism), names.structures(base, mechanism)


def c_binding(kernel: str) -> str:
    constants, structures = declared(kernel)
    lines = ["#include <stdint.h>"]
    lines += [
        f'#define {name} "{value}"' if isinstance(value, str) else f"#define {name} {value}"
        for name, value in constants.items()
    ]
    # The kernel's __aligned_u64.
    aligned = "__attribute__((aligned(8))) uint64_t"
    lines += [text.replace("uint64_t", aligned) for text in structures.values()]
    return "\n".join(lines) + "\n"


def rust_binding(kernel: str) -> str:
    constants, structures = declared(kernel)
    lines = ["#![allow(dead_code, non_camel_case_types, non_snake_case, unexpected_cfgs)]"]
    lines += ["#![allow(non_upper_case_globals)]"]
    for name, value in constants.items():
        if isinstance(value, str):
            lines.append(f'pub const {name}: &[u8; {len(value) + 1}] = b"{value}\\0";')
        elif value >> 8 == ord(";"):
            lines.append(f"pub fn {name}() -> u64 {{ {value} }}")
        else:
            lines.append(f"pub const {name}: u64 = {value};")
    for name, text in structures.items():
        lines.append(f"#[repr(C)] pub struct {name} {{")
        for kind, member, length in MEMBER.findall(text):
            array = f"{member}[{length}]" in text
            rust = RUST_TYPES.get(kind, kind)
            field = member + "_" * (member == "type")
            lines.append(
                f"    pub {field}: " + (f"[{rust}; {length or 0}]," if array else f"{rust},")
            )
        lines.append("}")
    return "\n".join(lines) + "\n"


def compile_c(
    folder: Path,
    binding: str,
    kernel: str,
    *options: str,
    header: str = (FOLDER / "vectors.h").read_text(),
) -> subprocess.CompletedProcess[str]:
    (folder / "vectors.h").write_text(header)
    (folder / "binding.c").write_text(f'{binding}#include "vectors.h"\n')
    argv = ["gcc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"]
    argv.append("-ffreestanding")  # <stdint.h> of gcc: the C library may be there for 64 bit alone
    argv += [*options, f"-DVFIO_ACPI_KERNEL={kernel}", "binding.c"]
    return subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def test_files_are_current() -> None:
    assert vectors.outdated() == [], "python -m uapi.vectors --write"


def test_drift_compares_and_writes_them(tmp_path: Path) -> None:
    for path in FOLDER.glob("[0-9]*.json"):
        shutil.copy(path, tmp_path)
    for name in FILES:
        shutil.copy(FOLDER / name, tmp_path)
    changed = tmp_path / "7.3-base.json"
    changed.write_text(changed.read_text().replace('"VFIO_BASE": 100', '"VFIO_BASE": 101'))
    compared, written, again = check.Drift(), check.Drift(), check.Drift()
    check._vectors(compared, tmp_path, write=False)
    assert len(compared.differences) == len(FILES)
    assert "names.json is not made from the golden JSON" in compared.differences[0]
    check._vectors(written, tmp_path, write=True)
    assert (written.differences, {path.name for path in written.written}) == ([], set(FILES))
    check._vectors(again, tmp_path, write=False)
    assert again.differences == []


# ---- C ----


@pytest.mark.parametrize("width", ["-m64", "-m32"])
@pytest.mark.parametrize("kernel", GOLDEN)
def test_header_agrees_with_the_mirror(tmp_path: Path, kernel: str, width: str) -> None:
    ended = compile_c(tmp_path, c_binding(kernel), macro(kernel), width)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(
    ("before", "after", "wrong"),
    [
        ("VFIO_DEVICE_SET_IRQS 15214", "VFIO_DEVICE_SET_IRQS 15215", "VFIO_DEVICE_SET_IRQS"),
        ("VFIO_DEVICE_FEATURE_ACPI_NOTIFY 14", "VFIO_DEVICE_FEATURE_ACPI_NOTIFY 13", "NOTIFY"),
        ("VFIO_PCI_NUM_IRQS 5", "VFIO_PCI_NUM_IRQS 6", "VFIO_PCI_NUM_IRQS is not 5"),
        ('"acpi_event"', '"acpi_events"', "ACPI_GENL_FAMILY_NAME is not acpi_event"),
        ("uint32_t pad;", "", "vfio_device_info"),
        ("uint32_t depth;\nuint32_t value;", "uint32_t value;\nuint32_t depth;", "depth"),
        ("uint32_t num_irqs;", "uint16_t num_irqs;", "num_irqs"),
        ("__attribute__((aligned(8))) ", "", "vfio_device_bind_iommufd"),
    ],
)
def test_header_finds_a_wrong_binding(tmp_path: Path, before: str, after: str, wrong: str) -> None:
    binding = c_binding(NEWEST)
    assert binding.count(before) == 1
    width = "-m32" if "aligned" in before else "-m64"  # the alignment is 8 without it at 64 bit
    ended = compile_c(tmp_path, binding.replace(before, after), macro(NEWEST), width)
    assert ended.returncode != 0
    assert wrong in ended.stderr


@pytest.mark.parametrize("number", [15214, 24, 14])
def test_a_changed_number_of_the_header_is_seen(tmp_path: Path, number: int) -> None:
    text = (FOLDER / "vectors.h").read_text()
    changed = re.sub(rf", {number}\);", f", {number + 1});", text, count=1)
    assert changed != text
    ended = compile_c(tmp_path, c_binding(NEWEST), macro(NEWEST), header=changed)
    assert f"is not {number + 1}" in ended.stderr


def test_a_kernel_has_to_be_selected(tmp_path: Path) -> None:
    for kernel in ("VFIO_ACPI_8_0_BASE", "0"):
        ended = compile_c(tmp_path, c_binding(NEWEST), kernel)
        assert "VFIO_ACPI_KERNEL has to be a kernel" in ended.stderr


def test_several_kernels_fail_by_what_varies(tmp_path: Path) -> None:
    both = f"{macro('6.1-base')}|{macro('6.12-base')}"
    ended = compile_c(tmp_path, c_binding("6.12-base"), both)
    assert "sizeof(struct vfio_device_info) is not 20" in ended.stderr
    # Of two kernels with equal constants and layouts nothing fails.
    alike = f"{macro('7.3-eventfd')}|{macro('7.3-ack')}"
    assert compile_c(tmp_path, c_binding("7.3-eventfd"), alike).returncode == 0


def test_a_part_can_be_left_out(tmp_path: Path) -> None:
    binding = "".join(
        line
        for line in c_binding(OLDEST).splitlines(keepends=True)
        if not line.startswith(("#define EFD_", "#define ACPI_GENL_"))
    )
    parts = ("EVENTFD", "ACPI_EVENT")
    for left_out, fits in ((parts, True), (parts[:1], False), (parts[1:], False)):
        options = [f"-DVFIO_ACPI_WITHOUT_{part}" for part in left_out]
        ended = compile_c(tmp_path, binding, macro(OLDEST), *options)
        assert (ended.returncode == 0) is fits


def test_header_is_cxx_as_well(tmp_path: Path) -> None:
    ended = compile_c(tmp_path, c_binding(NEWEST), macro(NEWEST), "-xc++", "-std=c++17", "-w")
    assert ended.returncode == 0, ended.stderr


# ---- Rust ----


@pytest.fixture
def rust() -> None:
    if shutil.which("rustc") is None or shutil.which("cargo") is None:
        pytest.skip("rustc or cargo is not installed: the test in Rust was NOT checked")


FUNCTION = "macro_rules! vfio_acpi_ioctl { ($name:ident) => { $name() }; }\n"


def run_rust(
    folder: Path, binding: str, kernel: str, *cfgs: str
) -> subprocess.CompletedProcess[str]:
    (folder / "vectors.rs").write_text((FOLDER / "vectors.rs").read_text())
    (folder / "binding.rs").write_text(f'{binding}{FUNCTION}include!("vectors.rs");\n')
    argv = ["rustc", "--edition=2021", "-Dwarnings", "--test", "-o", "it", "binding.rs"]
    for cfg in (f'vfio_acpi="{kernel}"', *cfgs):
        argv += ["--cfg", cfg]
    options = {"cwd": folder, "capture_output": True, "text": True, "timeout": 120, "check": False}
    ended = subprocess.run(argv, **options)  # type: ignore[call-overload]
    return ended if ended.returncode else subprocess.run(["./it"], **options)  # type: ignore[call-overload,no-any-return]


@pytest.mark.usefixtures("rust")
@pytest.mark.parametrize("kernel", ["6.1-base", "6.12-netlink", "7.3-eventq", "7.3-doorbell"])
def test_rust_agrees_with_the_mirror(tmp_path: Path, kernel: str) -> None:
    ended = run_rust(tmp_path, rust_binding(kernel), kernel)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert re.search(r"[4-9] passed; 0 failed|\d\d passed; 0 failed", ended.stdout)


@pytest.mark.usefixtures("rust")
def test_rust_finds_a_wrong_binding(tmp_path: Path) -> None:
    binding = rust_binding(NEWEST)
    for before, after in (
        ("VFIO_DEVICE_SET_IRQS() -> u64 { 15214 }", "VFIO_DEVICE_SET_IRQS() -> u64 { 15215 }"),
        ("VFIO_DEVICE_FEATURE_ACPI_NOTIFY: u64 = 14", "VFIO_DEVICE_FEATURE_ACPI_NOTIFY: u64 = 13"),
        ("    pub pad: u32,\n", "    pub pad: u64,\n"),
        (r'b"acpi_event\0"', r'b"acpi_evenT\0"'),
    ):
        assert binding.count(before) == 1
        binding = binding.replace(before, after)
    ended = run_rust(tmp_path, binding, NEWEST)
    assert ended.returncode != 0
    for wrong in (
        "VFIO_DEVICE_SET_IRQS is 15215, not 15214",
        "VFIO_DEVICE_FEATURE_ACPI_NOTIFY is 13, not 14",
        "size of vfio_device_info.pad is 8, not 4",
        "vfio_device_info is 32, not 24",
        "ACPI_GENL_FAMILY_NAME is not acpi_event",
    ):
        assert wrong in ended.stdout


@pytest.mark.usefixtures("rust")
def test_rust_needs_a_kernel(tmp_path: Path) -> None:
    ended = run_rust(tmp_path, rust_binding(NEWEST), "8.0-base")
    assert "the cfg vfio_acpi has to be a kernel of this file" in ended.stderr


@pytest.mark.usefixtures("rust")
def test_cargo(tmp_path: Path) -> None:
    """A crate selects the kernel in its build script, as docs/vectors.md says."""
    (tmp_path / "src").mkdir()
    (tmp_path / "Cargo.toml").write_text(
        '[package]\nname = "binding"\nversion = "0.1.0"\nedition = "2021"\n'
    )
    (tmp_path / "build.rs").write_text(
        'fn main() { println!("cargo:rustc-cfg=vfio_acpi=\\"7.3-eventq\\""); }\n'
    )
    shutil.copy(FOLDER / "vectors.rs", tmp_path / "src")
    source = f'{rust_binding(NEWEST)}{FUNCTION}include!("vectors.rs");\n'
    (tmp_path / "src" / "lib.rs").write_text(source)
    ended = subprocess.run(
        ["cargo", "test", "--offline", "--quiet"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


# ---- the index of names ----


@pytest.mark.parametrize(
    ("kind", "name", "since", "varies"),
    [
        ("constants", "VFIO_BASE", "6.1", False),
        ("constants", "VFIO_DEVICE_FLAGS_CDX", "6.12", False),
        ("constants", "VFIO_DEVICE_FEATURE_DMA_BUF", "7.3", False),
        ("constants", "VFIO_PCI_NUM_IRQS", "6.1", True),
        ("constants", "ACPI_GENL_CMD_MAX", "6.1", True),
        ("structures", "vfio_device_info", "6.1", True),
        ("structures", "vfio_irq_info", "6.1", False),
        ("structures", "iommu_destroy", "6.12", False),
    ],
)
def test_marks(kind: str, name: str, since: str, varies: bool) -> None:
    mark = INDEX[kind][name]
    assert (mark["since"], mark["varies"]) == (since, varies)


def test_index_has_every_name_and_its_kernels() -> None:
    assert INDEX["constants"].keys() == names.everything().keys()
    assert INDEX["kernels"].keys() == GOLDEN.keys()
    for kind in ("constants", "structures"):
        for name, mark in INDEX[kind].items():
            there = [k for k, golden in GOLDEN.items() if name in golden["abis"]["64"][kind]]
            assert mark.get("kernels", list(GOLDEN)) == there


def test_marks_are_in_the_files() -> None:
    for name, mark in (("vectors.h", "/* since 6.12 */"), ("vectors.rs", "// since 6.12")):
        text = (FOLDER / name).read_text()
        assert any("VFIO_DEVICE_FLAGS_CDX" in line for line in text.splitlines() if mark in line)
        assert any("VFIO_PCI_NUM_IRQS" in line for line in text.splitlines() if "varies" in line)
    assert set(FILES) == {path.name for path in FOLDER.glob("[nv]*")}


def test_usage() -> None:
    ended = subprocess.run(
        ["python3", "-m", "uapi.vectors", "--wrong"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (2, "usage: python -m uapi.vectors [--write]\n")
