# SPDX-License-Identifier: GPL-2.0-only
"""Render the project's Jinja templates of mails, Markdown, ASL and HTML."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def render(template: Path, *, html: bool = False, **values: Any) -> str:
    """Return the text of ``template`` with ``values``, ending as the template does.

    A line of the template that has only a block's tag leaves no empty line. With ``html``, the
    characters of HTML's syntax are escaped in the values. jinja2.TemplateError if the template is
    wrong, or uses a name that is not in ``values``.
    """
    # The import takes 0.1 s; most runs find the rendered text in the cache.
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=html,  # noqa: S701 - the other templates are no markup
    )
    return environment.from_string(template.read_text(encoding="utf-8")).render(values)
