# SPDX-License-Identifier: GPL-2.0-only
"""The examples of docs/python.md are code that type-checks and names what there is."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from uapi.__main__ import _parser
from uapi.errors import UapiError
from uapi.vfio import Device

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "python.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def test_examples_type_check(tmp_path: Path) -> None:
    for number, example in enumerate(EXAMPLES):
        (tmp_path / f"example{number}.py").write_text(example)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file", ROOT / "pyproject.toml",
         "--cache-dir", tmp_path / "cache", *sorted(tmp_path.glob("*.py"))],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", re.findall(r"^\| `(\w+)\(", TEXT, re.MULTILINE))
def test_every_method_is_there(name: str) -> None:
    assert callable(getattr(Device, name))


def test_every_option_is_there() -> None:
    for line in re.findall(r"^python -m uapi (.+)$", TEXT, re.MULTILINE):
        assert _parser().parse_args(line.split()).command


def test_the_message_is_as_told() -> None:
    assert issubclass(UapiError, OSError)
    assert "index 7 is not below num_irqs 6" in TEXT
