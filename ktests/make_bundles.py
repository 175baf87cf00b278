# SPDX-License-Identifier: GPL-2.0-only
"""Write the bundle of an image (`ktests.bundle`). A program that the host runs, not the guest.

    make_bundles.py runtime ROOT SEEN_AS PROJECT SITE
    make_bundles.py suite ROOT SEEN_AS OPTION...

ROOT is the folder that becomes the image, SEEN_AS its path in the guest. ``runtime``, run by the
image's interpreter, imports the suite's dependencies from SITE, its site-packages. ``suite``, run
by the harness's interpreter, has pytest collect the suite with OPTIONs, which also stores the byte
code of the test modules; the modules that they import are bundled. Exits with pytest's status.
"""

from __future__ import annotations

import sys
from importlib import import_module


def runtime(root: str, seen_as: str, project: str, site: str) -> int:
    """Bundle the dependencies of the suite and the modules of the standard library that they use.

    Returns 0.
    """
    sys.path[:0] = [project, site]
    plugins = (f"_pytest.{name}" for name in import_module("_pytest.config").default_plugins)
    for name in ("pyroute2.netlink", "pytest", *plugins, "ctypes", "json", "platform"):
        import_module(name)
    from ktests import bundle

    bundle.write(f"{root}/lib/bundle", root, seen_as)
    return 0


def suite(root: str, seen_as: str, *options: str) -> int:
    """Collect the suite and bundle its other modules. Returns pytest's exit status."""
    import pytest

    status = pytest.main([*options, "--rootdir", root, f"{root}/ktests"])
    if status == 0:
        from ktests import bundle, session  # noqa: F401 - the session belongs into the bundle

        bundle.write(f"{root}/bundle", root, seen_as)
    return int(status)


if __name__ == "__main__":
    if sys.argv[1] == "runtime":
        sys.exit(runtime(*sys.argv[2:]))
    sys.exit(suite(*sys.argv[2:]))
