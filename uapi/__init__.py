# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""A library for the uAPI of ACPI notifications of VFIO PCI devices, used by host and guest.

It has the kernel's constants and structures, opens devices, and decodes what the kernel sends by an
eventfd, a queue or the acpi_event family. It imports nothing else of this project. Its name is
``vfio_acpi`` where it is installed, and ``uapi`` in a clone.
"""

__version__ = "0.2.0"
