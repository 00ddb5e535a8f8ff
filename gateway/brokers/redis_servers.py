"""Which server answers, as it says of itself, and whether it can be worked with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .redis_connection import ConnectionLost
from .redis_options import Address


@dataclass(slots=True)
class Server:
    """The server of one session.

    is_append_only: what this server acknowledged before it restarted is there again. Not so where it took over from
        another, which may have acknowledged more than it had replicated.
    """

    address: Address
    run_id: str
    is_append_only: bool

    @classmethod
    def of(cls, address: Address, info: bytes, before: Server | None) -> Server:
        """info: the reply to INFO. before: the server of the last session. Raises: ConnectionLost for no master."""
        facts = dict(line.split(":", 1) for line in info.decode(errors="replace").split("\r\n") if ":" in line)
        if facts.get("loading") == "1":
            raise ConnectionLost("it is loading its data")
        if facts.get("role", "master") != "master":
            raise ConnectionLost("it is a replica")
        # Behind one address, too, a replica may have taken over: it remembers whose.
        has_taken_over = facts.get("master_replid2", "").strip("0") != ""
        has_taken_over |= before is not None and before.address != address
        return cls(address, facts.get("run_id", ""), facts.get("aof_enabled") == "1" and not has_taken_over)

    def may_lack(self, before: Server | None) -> bool:
        """Whether something may be missing here that the server before it had acknowledged."""
        return before is not None and before.run_id != self.run_id and not self.is_append_only


def check_role(role: Any) -> None:
    """role: the reply to ROLE. Raises: ConnectionLost where it is not that of a master."""
    if isinstance(role, list) and role and role[0] != b"master":
        raise ConnectionLost("it has become a replica")
