"""Keeping what a client has not taken out of the kernel, so that ``writable`` says the truth about it.

The kernel takes megabytes for a connection whose peer does not read, and asyncio hears of it only after that. With
``TCP_NOTSENT_LOWAT`` it takes what the network carries and little more; the rest waits with us, where it can be
dropped, replaced and counted.
"""

from __future__ import annotations

import logging
import socket
from typing import Any, Final

logger = logging.getLogger("tidegate.unsent")

#: Unsent bytes that the kernel holds for a connection. Much less, and a fast client's connection runs dry between
#: two turns of the loop.
UNSENT_BYTES: Final = 32 * 1024
#: Linux and macOS have it.
_OPTION: Final[int | None] = getattr(socket, "TCP_NOTSENT_LOWAT", None)


def limit_unsent(sock: Any) -> bool:
    """Limit what the kernel holds for ``sock``, or for every connection that the listening ``sock`` will accept.

    False where the platform, or a socket that is not TCP, knows no such limit.
    """
    if _OPTION is None or sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    try:
        sock.setsockopt(socket.IPPROTO_TCP, _OPTION, UNSENT_BYTES)
    except OSError as error:  # the peer is gone, or a kernel that has the name but not the option
        logger.debug("unsent bytes are not limited: %s", error)
        return False
    return True
