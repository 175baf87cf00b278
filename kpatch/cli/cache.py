# SPDX-License-Identifier: GPL-2.0-only
"""The command ``clean``, which empties the cache."""

from __future__ import annotations

import click

from kpatch.cli.guard import guarded_without_cache
from kpatch.lib import cache


@click.command()
@guarded_without_cache
def clean() -> None:
    """Empty the cache, and list what was removed with its size."""
    freed = cache.clean()
    for item in freed:
        click.echo(f"{item.size / 1e6:9.1f} MB  {item.path}")
    click.echo(f"{sum(item.size for item in freed) / 1e6:9.1f} MB  freed in {cache.root()}")


COMMANDS = (clean,)
