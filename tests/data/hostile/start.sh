#!/bin/busybox sh
# SPDX-License-Identifier: GPL-2.0-only
# In the place of ktests/start.sh: as root, beside the init.
export LD_LIBRARY_PATH=/mnt/runtime/lib PYTHONHOME=/mnt/runtime
exec /mnt/runtime/bin/python3 -S -s -P /mnt/suite/ktests/guest.py > /dev/console 2>&1
