# SPDX-License-Identifier: GPL-2.0-only
"""Which tests an expression of pytest's ``-k`` can select, told before they are made.

pytest makes all tests and then drops those that are not selected; under emulation the first takes
a second. What a function is called and which requirement it tests is known before; what the
parameters of its tests are called is not.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Mapping

from _pytest.mark.expression import Expression

# What pytest takes for a name, and those that it does not look for.
NAME = re.compile(r"[\w:+.\[\]\\/-]+")
OPERATORS = frozenset({"and", "or", "not"})

# No parameter is called like a requirement.
REQUIREMENT = "req-"
# Each name that is not known doubles what has to be tried.
MOST_UNKNOWN = 4


class Selection:
    """An expression; an empty one, or one that pytest will refuse, can select everything."""

    def __init__(self, text: str) -> None:
        self._names = {name for name in NAME.findall(text) if name not in OPERATORS}
        try:
            self._expression = Expression.compile(text) if text.strip() else None
        except SyntaxError:
            self._expression = None

    def possible(self, keywords: Collection[str]) -> bool:
        """Whether a test with these keywords, and any names of parameters, can be selected."""
        if self._expression is None:
            return True
        known = {name: self._known(name, keywords) for name in self._names}
        unknown = [name for name, value in known.items() if value is None]
        if len(unknown) > MOST_UNKNOWN:
            return True
        return any(
            self._selects({**known, **dict(zip(unknown, values, strict=True))})
            for values in itertools.product((True, False), repeat=len(unknown))
        )

    @staticmethod
    def _known(name: str, keywords: Collection[str]) -> bool | None:
        """Whether the name matches, by the rule of pytest; None if a parameter may decide."""
        if any(name.lower() in keyword.lower() for keyword in keywords):
            return True
        return False if name.lower().startswith(REQUIREMENT) else None

    def _selects(self, values: Mapping[str, bool | None]) -> bool:
        def matches(name: str, /, **_: object) -> bool:
            # One that NAME has split otherwise than pytest does may match.
            return bool(values.get(name, True))

        assert self._expression is not None
        return self._expression.evaluate(matches)
