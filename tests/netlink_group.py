# SPDX-License-Identifier: GPL-2.0-only
"""A multicast group of netlink to which tests send messages themselves.

The tests use another protocol than generic netlink, so that they can send the messages. Joining its
groups needs CAP_NET_ADMIN.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from uapi.probe import Family, Membership

PROTOCOL = socket.NETLINK_USERSOCK

Member = TypeVar("Member", bound=Membership)
Send = Callable[..., None]


@contextlib.contextmanager
def sending(group: int) -> Iterator[Send]:
    """Yield a function that sends each of its arguments, messages, to the group ``group``."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, PROTOCOL) as sender:

        def send(*messages: bytes) -> None:
            for data in messages:
                # The group receives the message. A send also needs a port; port 0 has no receiver.
                with contextlib.suppress(ConnectionRefusedError):
                    sender.sendto(data, (0, 1 << group - 1))

        yield send


@contextlib.contextmanager
def joined(kind: type[Member], family: Family) -> Iterator[Member]:
    """Yield a listener of this ``kind`` with a small buffer; skip the test without privileges."""
    try:
        made = kind(buffer=4096, known=family, protocol=PROTOCOL)
    except PermissionError:
        pytest.skip("joining this group takes CAP_NET_ADMIN")
    with made:
        yield made
