# SPDX-License-Identifier: GPL-2.0-only
"""The environment of the programs that the harness starts."""

from __future__ import annotations

import json
import sys
import tarfile
from pathlib import Path

import pytest

from kpatch.lib import environment, process
from kpatch.lib.stage import Silent
from kpatch.source import unpack

HOSTILE = {
    *("ARCH", "BASH_ENV", "CC", "CCACHE_PREFIX", "COMPILER_PATH", "CPATH", "CROSS_COMPILE", "ENV"),
    *("C_INCLUDE_PATH", "GCC_EXEC_PREFIX", "GIT_DIR", "GNUMAKEFLAGS", "KBUILD_OUTPUT", "KCFLAGS"),
    *("KCONFIG_CONFIG", "LANG", "LLVM", "MAKEFLAGS", "MAKEOVERRIDES", "PYTHONPATH"),
    *("PYTHONSTARTUP", "http_proxy"),
}


def test_nothing_that_decides_a_build_gets_through(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in HOSTILE:
        monkeypatch.setenv(name, "hostile")
    monkeypatch.setenv("LD_PRELOAD", "")
    program = "import json, os; print(json.dumps(dict(os.environ)))"
    status, output = process.capture([sys.executable, "-I", "-c", program])
    assert status == 0
    found = json.loads(output)
    assert not {*HOSTILE, "LD_PRELOAD"} & set(found)
    assert set(found) <= {*environment.VARIABLES, "LC_ALL", "LC_CTYPE"}
    assert found["LC_ALL"] == "C"


def test_settings_of_tar_lose_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "tree.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for name in ("tree/a.c", "tree/a.h"):
            tar.addfile(tarfile.TarInfo(name))
    monkeypatch.setenv("TAR_OPTIONS", "--exclude=*.c")
    monkeypatch.setenv("GZIP", "--keep")
    unpack.tarball(archive, tmp_path / "tree", what="tree", stage=Silent())
    assert sorted(path.name for path in (tmp_path / "tree").iterdir()) == ["a.c", "a.h"]
