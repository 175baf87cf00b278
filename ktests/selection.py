# SPDX-License-Identifier: GPL-2.0-only
"""Decide whether pytest's ``-k`` can select tests of a function, before pytest creates them.

pytest creates all tests and then drops those that ``-k`` does not select. Under emulation this
takes a second. The names of a function, its module, its markers and its requirement are known
before pytest creates its tests; the names of the parameters are not.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection
from types import CodeType

# NAME matches a name or an operator in an expression, as pytest defines it. An expression that
# consists not only of names, OPERATORS and BESIDES is left to pytest.
NAME = re.compile(r"[\w:+.\[\]\\/-]+")
OPERATORS = frozenset({"and", "or", "not"})
BESIDES = re.compile(r"[\s()]*")

# Names that begin like this (in lower case) are those of requirements and tests; no parameter has
# such a name.
REQUIREMENT, TEST = "req-", "test_"
# An expression with more names than this that may be parameters is left to pytest: each doubles the
# number of combinations to try.
MOST_UNKNOWN = 4


class Selection:
    """An argument of ``-k``: an expression of names, "and", "or", "not" and parentheses.

    If it is empty, or if this module does not understand it, `possible` always returns True.
    """

    def __init__(self, text: str) -> None:
        self._names = sorted({name for name in NAME.findall(text) if name not in OPERATORS})
        self._code = self._compiled(text)

    def possible(self, keywords: Collection[str]) -> bool:
        """Return whether the expression can select a test with ``keywords``.

        These are the names that the test is known to have. Its parameters may add others, but none
        that begins with `REQUIREMENT` or `TEST`. Returns True also if more than `MOST_UNKNOWN` of
        the expression's names may be those of parameters.
        """
        if self._code is None:
            return True
        answers = [self._matches(name, keywords) for name in self._names]
        if answers.count(None) > MOST_UNKNOWN:
            return True
        choices = [(True, False) if value is None else (value,) for value in answers]
        return any(self._selects(values) for values in itertools.product(*choices))

    def _compiled(self, text: str) -> CodeType | None:
        """Compile the expression to Python code with a variable in the place of each name.

        The variable of the name with index N in ``_names`` is vN. Returns None if the expression is
        empty or is not understood.
        """
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
        """Return whether ``name`` is a substring of a keyword, ignoring case, as pytest matches it.

        Returns None if it is not, but may match the name of a parameter.
        """
        if any(name.lower() in keyword.lower() for keyword in keywords):
            return True
        known = name.lower().startswith((REQUIREMENT, TEST)) and "[" not in name
        return False if known else None

    def _selects(self, values: Collection[bool]) -> bool:
        assert self._code is not None
        variables = {f"v{number}": value for number, value in enumerate(values)}
        # The code contains only these variables, OPERATORS and parentheses: see _compiled().
        return bool(eval(self._code, {"__builtins__": {}}, variables))  # noqa: S307
