# SPDX-License-Identifier: GPL-2.0-only
"""The examples of docs/python.md type-check, and the methods and options that it names exist."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from uapi.__main__ import _parser
from uapi.vfio import Device, DeviceInfo

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


@pytest.mark.parametrize("line", re.findall(r"^python -m uapi (.+)$", TEXT, re.MULTILINE))
def test_every_option_is_there(line: str) -> None:
    assert _parser().parse_args(line.split()).command


class Eventfd(Device):
    """A device of the eventfd series on which every ioctl fails."""

    def info(self, argsz: int | None = None) -> DeviceInfo:
        """Return the answer of a kernel with the eventfd series."""
        return DeviceInfo(0, 9, 6, 0)


def test_the_message_is_as_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The example prints the line that its comment shows."""
    example, told = next(
        (example, comment.group(1))
        for example in EXAMPLES
        if (comment := re.search(r"^ +# (VFIO_.+)$", example, re.MULTILINE))
    )

    def refuse(*_: object) -> int:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    def opened(bdf: str) -> Device:
        return Eventfd.from_fd(os.open(os.devnull, os.O_RDWR), bdf)

    monkeypatch.setattr("fcntl.ioctl", refuse)
    monkeypatch.setattr(Device, "open", opened)
    exec(example, {})  # noqa: S102 - the project's own text
    assert capsys.readouterr().out == f"{told}\n"
