# SPDX-License-Identifier: GPL-2.0-only
"""The test suite that runs in the guest. It imports `uapi`, and none of the host's packages."""
