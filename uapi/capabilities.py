# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""The chain of capabilities behind a structure that a VFIO ioctl returns.

Each capability begins with struct vfio_info_cap_header: id, version, and the offset of the next
one from the beginning of the structure, 0 in the last one (include/uapi/linux/vfio.h).
"""

from __future__ import annotations

from itertools import pairwise

from . import mirror

HEADER = mirror.sizeof("vfio_info_cap_header")


def chain(answer: bytes, offset: int) -> dict[int, bytes]:
    """Return the capabilities in ``answer`` by their ids.

    ``offset`` is the offset of the first one in ``answer``, 0 if there is none. A capability is the
    bytes up to the next one, or to the end of ``answer``. Of two with the same id the last is
    returned. ValueError if a header is not within ``answer`` behind the one before.
    """
    offsets: list[int] = []
    ids: list[int] = []
    while offset:
        if offset + HEADER > len(answer) or (offsets and offset < offsets[-1] + HEADER):
            raise ValueError(f"a capability is at offset {offset} of {len(answer)} bytes")
        header = mirror.ffi.from_buffer("struct vfio_info_cap_header[]", answer[offset:][:HEADER])
        offsets.append(offset)
        ids.append(header[0].id)
        offset = header[0].next
    ends = pairwise([*offsets, len(answer)])
    return {number: answer[begin:end] for number, (begin, end) in zip(ids, ends, strict=True)}
