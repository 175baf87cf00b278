#!/bin/busybox sh
# SPDX-License-Identifier: GPL-2.0-only
# Starts the suite with the Python of the runtime image; also good in an interactive shell of
# the test kernel: `/mnt/suite/ktests/start.sh -k layout` runs tests by hand.
# Nothing is installed there that pytest could find as a plugin: it need not look.
export PYTEST_DISABLE_PLUGIN_AUTOLOAD=1
export LD_LIBRARY_PATH=/mnt/runtime/lib PYTHONHOME=/mnt/runtime
# A file, not its folder: to run that Python would load what runs modules.
exec /mnt/runtime/bin/python3 -S -s -P /mnt/suite/ktests/__main__.py "$@"
