# SPDX-License-Identifier: GPL-2.0-only
"""The environment of the programs that the harness starts."""

from __future__ import annotations

import json
import sys

import pytest

from kpatch.lib import environment, process

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
    status, output = process.capture([sys.executable, "-I", "-c", program], env=environment.clean())
    assert status == 0
    found = json.loads(output)
    assert not {*HOSTILE, "LD_PRELOAD"} & set(found)
    assert set(found) <= {*environment.VARIABLES, "LC_ALL", "LC_CTYPE"}
    assert found["LC_ALL"] == "C"
