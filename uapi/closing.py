# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""A base class for objects that are closed at the end of their ``with`` block."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self


class Closing(ABC):
    """A context manager that calls `close` at the end of its block, also after an exception."""

    @abstractmethod
    def close(self) -> object:
        """Release the resources of the object, for instance its file descriptor."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
