# SPDX-License-Identifier: GPL-2.0-only
"""Measurements of the kernel's mechanism, which the host asks for instead of the tests.

clock.c          times system calls, without an interpreter between them
clock.py         calls it
reference.py     the notification that costs least, and the time of an interrupt
stand.py         the devices, the firmware and the VMMs of the measurements
measurements.py  the measurements, a function each
session.py       runs them, and reports them to the host as it reports tests
"""
