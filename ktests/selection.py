# SPDX-License-Identifier: GPL-2.0-only
"""Which tests an expression of pytest's ``-k`` can select, told before they are made.

pytest makes all tests and then drops those that are not selected; under emulation the first takes
a second. What a function is called and which requirement it tests is known before; what the
parameters of its tests are called is not.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection
from types import CodeType

# What pytest takes for a name, and what besides names there may be for us to understand it.
NAME = re.compile(r"[\w:+.\[\]\\/-]+")
OPERATORS = frozenset({"and", "or", "not"})
BESIDES = re.compile(r"[\s()]*")

# No parameter is called like a requirement or a test.
REQUIREMENT, TEST = "req-", "test_"
# Each name that is not known doubles what has to be tried.
MOST_UNKNOWN = 4


class Selection:
    """An expression; one that is empty, or that only pytest understands, can select everything."""

    def __init__(self, text: str) -> None:
        self._names = sorted({name for name in NAME.findall(text) if name not in OPERATORS})
        self._code = self._compiled(text)

    def possible(self, keywords: Collection[str]) -> bool:
        """Whether a test with these keywords, and any names of parameters, can be selected."""
        if self._code is None:
            return True
        found = [self._matches(name, keywords) for name in self._names]
        if found.count(None) > MOST_UNKNOWN:
            return True
        choices = [(True, False) if value is None else (value,) for value in found]
        return any(self._selects(values) for values in itertools.product(*choices))

    def _compiled(self, text: str) -> CodeType | None:
        """The expression as Python's, of variables v0, v1 and so on in place of the names."""
        if not self._names or not BESIDES.fullmatch(NAME.sub("", text)):
            return None
        known = {name: f"v{number}" for number, name in enumerate(self._names)}
        expression = NAME.sub(lambda match: known.get(match[0], match[0]), text)
        try:
            return compile(expression.strip(), "selection", "eval")
        except SyntaxError:
            return None

    @staticmethod
    def _matches(name: str, keywords: Collection[str]) -> bool | None:
        """Whether the name matches, by the rule of pytest; None if a parameter may decide."""
        if any(name.lower() in keyword.lower() for keyword in keywords):
            return True
        known = name.lower().startswith((REQUIREMENT, TEST)) and "[" not in name
        return False if known else None

    def _selects(self, values: Collection[bool]) -> bool:
        assert self._code is not None
        variables = {f"v{number}": value for number, value in enumerate(values)}
        # Of nothing but these variables, operators and parentheses: see _compiled().
        return bool(eval(self._code, {"__builtins__": {}}, variables))  # noqa: S307
