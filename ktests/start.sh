#!/bin/busybox sh
# SPDX-License-Identifier: GPL-2.0-only
# Starts the suite with the Python of the runtime image. In a shell of the test kernel it runs
# tests by hand, with the arguments of pytest: `/mnt/suite/ktests/start.sh -k value`.
# The image contains no plugins of pytest, so that searching for them would only take time.
export PYTEST_DISABLE_PLUGIN_AUTOLOAD=1
export LD_LIBRARY_PATH=/mnt/runtime/lib PYTHONHOME=/mnt/runtime
# The argument is the file and not its folder: for a folder Python would first import runpy.
exec /mnt/runtime/bin/python3 -S -s -P /mnt/suite/ktests/__main__.py "$@"
