"""Tokens for the attachment routes: one for each open connection, ending with it.

So a session has one life whatever it speaks: whoever is revoked loses both at once.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from protocol.frames import TOKEN_BYTES

if TYPE_CHECKING:
    from server.connection import Connection


class Tokens:
    """The tokens that are valid now."""

    def __init__(self) -> None:
        self._holders: dict[bytes, Connection] = {}

    def issue(self, connection: Connection) -> bytes:
        """Return the connection's token."""
        connection.token = secrets.token_bytes(TOKEN_BYTES)
        self._holders[connection.token] = connection
        return connection.token

    def revoke(self, connection: Connection) -> None:
        """End the connection's token."""
        self._holders.pop(connection.token, None)

    def holder(self, token: bytes) -> Connection | None:
        """Return whose token it is; a look-up by a hash table tells nothing of near misses."""
        return self._holders.get(token)
