# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""What is closed at the end of its ``with`` block, whatever ended that."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self


class Closing(ABC):
    """A context manager for a class that has ``close``."""

    @abstractmethod
    def close(self) -> object:
        """Give back what is held."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
