# SPDX-License-Identifier: GPL-2.0-only
"""The suite that runs inside the test kernel. Uses uapi, and nothing of the host side."""
