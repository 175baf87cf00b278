# SPDX-License-Identifier: GPL-2.0-only
"""The part of the build that pyproject.toml cannot say: the packages in uapi/ as ``vfio_acpi``.

Wheels have the man page in their data files. It is here so that both are in one place.
"""

import atexit
import shutil
import tempfile

from setuptools import find_packages, setup

# setuptools would take along files that an earlier build has left in build/.
BUILD = tempfile.mkdtemp(prefix="vfio-acpi-build-")
atexit.register(shutil.rmtree, BUILD, ignore_errors=True)

setup(
    data_files=[("share/man/man1", ["uapi/vfio-acpi.1"])],
    packages=["vfio_acpi", *(f"vfio_acpi.{name}" for name in find_packages("uapi"))],
    options={"build": {"build_base": BUILD}},
)
