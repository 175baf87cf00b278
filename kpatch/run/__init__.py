# SPDX-License-Identifier: GPL-2.0-only
"""A run of the suite in VMs: what the guest tells, and what its console says."""
