# SPDX-License-Identifier: GPL-2.0-only
"""docs/errnos.toml agrees with the carried patches, the kernels' sources, and the suite."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from kpatch.dev import errnos
from kpatch.dev.errnos import Call, Errno
from kpatch.series import catalog
from kpatch.tables.mechanisms import MECHANISMS
from kpatch.tables.paths import KTESTS
from tests.carried import CARRIED_KERNELS

CALLS = errnos.load()
ROWS = [(call, errno) for call in CALLS for errno in call.errnos]

# The line of C that begins a function, and an errno that code names.
FUNCTION = re.compile(r"^(?![\s#/*}])(?:[\w\s*]*?[\s*])?(\w+)\((?!.*;\s*$)")
NAMED = re.compile(r"-(E[A-Z]{2,})\b")

# User space sees the errno that is the value here instead of the key.
SEEN_AS = {"ERESTARTSYS": "EINTR"}
# How the suite spells some errnos.
SPELT = {"EAGAIN": "BlockingIOError", "EPERM": "PermissionError", "ENOBUFS": "Overrun()"}


def name(row: tuple[Call, Errno]) -> str:
    """Return the id of a row of the table, for pytest."""
    call, errno = row
    return f"{call.mechanism}, {call.name}: {errno.name}"


def sources(patch: str) -> Iterator[str]:
    """Yield the part of a patch for each C file of the kernel itself, without its head."""
    for part in re.split(r"^diff --git ", patch, flags=re.MULTILINE)[1:]:
        path = part.split(maxsplit=1)[0]
        if path.endswith((".c", ".h")) and "selftests" not in path:
            yield part[part.index("\n@@") :]


def added_errnos(patch: str) -> dict[str, set[str]]:
    """Return the errnos that a patch adds, by function. Comments are left out."""
    found: dict[str, set[str]] = {}
    for part in sources(patch):
        function = ""
        for line in part.splitlines():
            if line.startswith("@@"):
                inside = re.search(r"(\w+)\(", line.rpartition("@@")[2])
                function = inside[1] if inside else ""
            elif begins := FUNCTION.match(line[1:]):
                function = begins[1]
            if line.startswith("+") and not line[1:].lstrip().startswith(("*", "/*")):
                for errno in NAMED.findall(line):
                    found.setdefault(function, set()).add(SEEN_AS.get(errno, errno))
    return found


@cache
def of_series(base: str, series: str) -> dict[str, set[str]]:
    """Return the errnos of all patches of a series for a base, by function."""
    found: dict[str, set[str]] = {}
    for mailbox in catalog.load(series, base).mailboxes:
        for function, named in added_errnos(mailbox.read_text()).items():
            found.setdefault(function, set()).update(named)
    return found


def test_errnos_are_found_by_function() -> None:
    patch = """diff --git a/x.c b/x.c
--- a/x.c
+++ b/x.c
@@ -1,2 +1,9 @@ static int before(void)
+	return -EIO;
+static int
+first(int argument,
+      int other)
+{
+	/* -EPERM is none */
+	if (wait(argument))
+		return -ERESTARTSYS;
+	return other ? ERR_PTR(-EBUSY) : -ENODEV;
"""
    assert added_errnos(patch) == {"before": {"EIO"}, "first": {"EINTR", "EBUSY", "ENODEV"}}


def test_every_mechanism_has_its_errnos() -> None:
    assert {call.mechanism for call in CALLS} == {"any", *MECHANISMS}
    assert [call.name for call in CALLS if not (call.errnos or call.not_seen)] == []


@pytest.mark.parametrize(("base", "series"), CARRIED_KERNELS)
def test_the_patches_return_the_errnos_of_the_table(base: str, series: str) -> None:
    """No errno of a patch is missing, and none of the table is in no patch."""
    found = of_series(base, series)
    calls = [call for call in CALLS if call.mechanism == series]
    assert set(found) == {function for call in calls for function in call.functions}
    for call in calls:
        named = set().union(*(found[function] for function in call.functions))
        told = {errno.name for errno in call.errnos if errno.kernel is None}
        assert named == told | (set(call.not_seen) - told), call.name
        assert not told & set(call.not_seen)


def definitions(module: str) -> dict[str, ast.stmt]:
    """Return the functions and the constants at the top of a module, by name."""
    found: dict[str, ast.stmt] = {}
    for node in ast.parse(module).body:
        if isinstance(node, ast.FunctionDef):
            found[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {it.id: node for it in targets if isinstance(it, ast.Name)}
    return found


def source_of(test: str) -> str:
    """Return the source of a test, and of the helpers and tables in ktests/ that it can use."""
    file, _, function = test.partition("::")
    nodes = definitions((Path(KTESTS) / file).read_text())
    wanted, seen = [function], dict[str, str]()
    while wanted:
        one = wanted.pop()
        node = nodes[one]
        seen[one] = ast.unparse(node)
        used = {it.id for it in ast.walk(node) if isinstance(it, ast.Name)}
        wanted += [it for it in used if it in nodes and it not in seen]
    found = "\n".join(seen.values())
    imported = "bad_input." in found or "Call(" in found
    return found + (Path(KTESTS) / "bad_input.py").read_text() * imported


@pytest.mark.parametrize("row", [row for row in ROWS if row[1].tests], ids=name)
def test_the_tests_expect_the_errno(row: tuple[Call, Errno]) -> None:
    _, errno = row
    word = re.compile(rf"\b{errno.name}\b|{re.escape(SPELT.get(errno.name, errno.name))}")
    assert [test for test in errno.tests if not word.search(source_of(test))] == []


@pytest.mark.trees
@pytest.mark.parametrize("row", [row for row in ROWS if row[1].kernel], ids=name)
def test_the_kernel_returns_the_errno(
    kernel_tree: tuple[str, Path], row: tuple[Call, Errno]
) -> None:
    """The function of the unpatched kernel is there and names the errno."""
    _, tree = kernel_tree
    _, errno = row
    assert errno.kernel is not None
    path, _, function = errno.kernel.partition(": ")
    defined = rf"^[a-z][\w *]*(?:\n[\w *]*)?\b{function}\([^;{{]*\)\n{{\n.*?^}}$"
    [body] = re.findall(defined, (tree / path).read_text(), re.MULTILINE | re.DOTALL)
    assert re.search(rf"\b{errno.name}\b", body)


# The variant drivers that do not pass VFIO_DEVICE_FEATURE on, as docs/uapi.md says.
WITHOUT_FEATURES = {"qat_vf_pci_ops"}


@pytest.mark.trees
def test_variant_drivers_pass_features_on(kernel_tree: tuple[str, Path]) -> None:
    _, tree = kernel_tree
    drivers = {
        found[1]: "device_feature" in found[2]
        for path in (tree / "drivers" / "vfio" / "pci").rglob("*.c")
        for found in re.finditer(
            r"struct vfio_device_ops (\w+) = \{(.*?)\n\};", path.read_text(), re.DOTALL
        )
    }
    assert drivers["vfio_pci_ops"] and len(drivers) >= 4
    assert {name for name, passes in drivers.items() if not passes} <= WITHOUT_FEATURES
