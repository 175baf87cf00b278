# SPDX-License-Identifier: GPL-2.0-only
"""A multicast group of netlink to which tests send messages themselves.

The tests use another protocol than generic netlink, so that they can send the messages. Joining its
groups needs CAP_NET_ADMIN. The sockets are in a network namespace of their own: another run of the
tests on this machine sends to the same groups.
"""

from __future__ import annotations

import contextlib
import functools
import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

from ktests import libc
from ktests.confinement import CLONE_NEWNET
from uapi.probe import Family, Membership

PROTOCOL = socket.NETLINK_USERSOCK

Member = TypeVar("Member", bound=Membership)
Send = Callable[..., None]


@functools.cache
def _namespace() -> int | None:
    """Make a network namespace, and return its descriptor; None without the privilege for it."""

    def make() -> int | None:
        try:
            libc.unshare(CLONE_NEWNET)
        except PermissionError:
            return None
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    # In a thread: it alone is in the namespace, and ends.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(make).result()


@contextlib.contextmanager
def in_namespace() -> Iterator[None]:
    """Have this thread open its sockets in `_namespace`, if there is one, in the block."""
    inside = _namespace()
    if inside is None:
        yield
        return
    outside = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        libc.setns(inside, CLONE_NEWNET)
        yield
    finally:
        libc.setns(outside, CLONE_NEWNET)
        os.close(outside)


@contextlib.contextmanager
def sending(group: int) -> Iterator[Send]:
    """Yield a function that sends each of its arguments, messages, to the group ``group``."""
    with in_namespace():
        sender = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, PROTOCOL)
    with sender:

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
        with in_namespace():
            made = kind(buffer=4096, known=family, protocol=PROTOCOL)
    except PermissionError:
        pytest.skip("joining this group takes CAP_NET_ADMIN")
    with made:
        yield made
