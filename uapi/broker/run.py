# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Run the broker: ``vfio-acpi broker``."""

from __future__ import annotations

import errno
import sys
from contextlib import ExitStack

from .. import probe
from ..errors import OpenError
from . import policy, privileges
from .listening import Listening
from .message import NETLINK
from .service import Service

# The broker reads at once; this is for a burst, and for a machine that is busy.
BUFFER = 4 << 20


def run(policy_path: str, socket_path: str, user: str | None) -> None:
    """Serve the policy in the file ``policy_path`` until an exception.

    ``socket_path`` is as for `Listening`. The policy is read, the family is joined and the socket
    is made first; then the privileges are dropped for good, and the user becomes ``user``.
    """
    granted = policy.load(policy_path)
    with ExitStack() as stack:
        source = None
        if any(grant.mechanism == NETLINK for grant in granted.values()):
            source = stack.enter_context(_joined())
        listening = stack.enter_context(Listening(socket_path))
        privileges.drop(user)
        service = stack.enter_context(Service(listening.socket, granted, source))
        print(f"serving {len(granted)} devices; Ctrl-C ends it", file=sys.stderr, flush=True)
        service.run()


def _joined() -> probe.NotifyListener:
    try:
        return probe.NotifyListener(buffer=BUFFER)
    except OpenError:
        raise
    except OSError as error:
        cause = {
            errno.ENOENT: "this network namespace does not have the family",
            errno.EPERM: "joining acpi_notify takes CAP_NET_ADMIN",
        }.get(error.errno or 0, error.strerror or str(error))
        hint = "start the broker as root in the initial network namespace, on a kernel with the "
        raise OpenError(
            error.errno or errno.EIO, "acpi_event", cause, f"{hint}netlink series"
        ) from None
