# SPDX-License-Identifier: GPL-2.0-only
"""Write the bundle (`ktests.bundle`) of one of the guest's images. The host runs this program.

    make_bundles.py runtime ROOT SEEN_AS PROJECT SITE
    make_bundles.py suite ROOT SEEN_AS OPTION...

ROOT is the folder from which the image is made, SEEN_AS its path in the guest.

``runtime`` writes the bundle of the runtime image, whose interpreter has to run it. It imports the
suite's dependencies from SITE, the image's site-packages; PROJECT is the folder that contains
ktests. ``suite`` writes the bundle of the suite's image. It has pytest collect the suite with the
OPTIONs, which also stores the byte code of the test modules, and bundles the modules that they
import. Its exit status is pytest's.
"""

from __future__ import annotations

import sys
from importlib import import_module


def runtime(root: str, seen_as: str, project: str, site: str) -> int:
    """Bundle the suite's dependencies, and the modules of the standard library that these import.

    The parameters are the arguments of the program, see the module. Returns the exit status 0.
    """
    sys.path[:0] = [project, site]
    plugins = (f"_pytest.{name}" for name in import_module("_pytest.config").default_plugins)
    for name in ("pyroute2.netlink", "pytest", *plugins, "ctypes", "json", "platform"):
        import_module(name)
    from ktests import bundle

    bundle.write(f"{root}/lib/bundle", root, seen_as)
    return 0


def suite(root: str, seen_as: str, *options: str) -> int:
    """Have pytest collect the suite, and bundle the modules that the test modules import.

    The parameters are the arguments of the program. Returns pytest's exit status; if it is not 0,
    no bundle is written.
    """
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
