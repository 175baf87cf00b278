# SPDX-License-Identifier: GPL-2.0-only
"""A comparison as data, and its JSON form (comparison.schema.json has every field)."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from kpatch.compare.measured import Measured
from kpatch.compare.outcomes import Row
from kpatch.compare.patches import Size
from kpatch.errors import HarnessError
from kpatch.report import result

SCHEMA_VERSION = 2
SCHEMA = Path(__file__).with_name("comparison.schema.json")


@dataclass(frozen=True)
class Host:
    """The machine of the comparison. ``accel`` is "kvm" or "tcg", "" if nothing was measured."""

    cpu: str
    cores: int
    accel: str
    qemu: str


@dataclass(frozen=True)
class Comparison:
    """The requirements, the measurements and the sizes of all compared series.

    ``recommended`` is the mechanism that the project recommends. ``count`` and ``samples`` are the
    parameters of the measurements, 0 if nothing was measured. ``selection`` is the expression that
    selected tests, "" for the whole suite. ``requirements`` maps ids to sentences.
    """

    started: str
    host: Host
    recommended: str
    count: int
    samples: int
    selection: str
    requirements: Mapping[str, str]
    outcomes: tuple[Row, ...]
    measured: tuple[Measured, ...]
    sizes: tuple[Size, ...]

    @property
    def kernels(self) -> list[str]:
        """Return the versions of the kernels, in the order in which they were compared."""
        return list(dict.fromkeys(kernel for kernel, _ in self._cells()))

    @property
    def series(self) -> list[str]:
        """Return the names of the series, sorted, the recommended one first."""
        names = {series for _, series in self._cells()}
        return sorted(names, key=lambda name: (name != self.recommended, name))

    def _cells(self) -> Iterator[tuple[str, str]]:
        """Yield kernel and series of all that is compared."""
        rows: tuple[Row | Measured | Size, ...] = (*self.outcomes, *self.measured, *self.sizes)
        return ((row.kernel, row.series) for row in rows)

    def figure(self, kernel: str, series: str, name: str) -> Measured | None:
        """Return the measurement ``name``; None if there is none."""
        key = (kernel, series, name)
        found = (it for it in self.measured if (it.kernel, it.series, it.name) == key)
        return next(found, None)

    def measurements(self) -> list[str]:
        """Return the names of all measurements, in their order."""
        return list(dict.fromkeys(it.name for it in self.measured))


def dump(comparison: Comparison) -> str:
    """Return the comparison as JSON text: the schema version, then the fields of Comparison."""
    data = {"schema_version": SCHEMA_VERSION, **dataclasses.asdict(comparison)}
    return json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def load(path: Path) -> Comparison:
    """Read a comparison from the JSON file ``path``.

    HarnessError (exit 2) if it cannot be read, or does not fit the schema of this version.
    """
    again = "make it again with `make compare`"
    try:
        data = result.read(path, SCHEMA, again=again)
    except HarnessError as error:
        raise HarnessError(str(path), error.cause, hint=again) from None
    del data["schema_version"]
    return result.record(data, Comparison)


def schema() -> str:
    """Return the JSON schema of a comparison, the content of comparison.schema.json."""
    import msgspec

    made = msgspec.json.schema(Comparison)
    fields = made["$defs"]["Comparison"]
    fields["properties"]["schema_version"] = {"const": SCHEMA_VERSION}
    fields["required"].append("schema_version")
    comment = "SPDX-License-Identifier: GPL-2.0-only"
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$comment": comment}
    return json.dumps(head | made, indent=1) + "\n"
