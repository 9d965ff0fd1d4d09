"""Which of the control log's statements stand until a newer one of their kind and name comes.

A device that enrols late needs what stands now, not all that ever was: the relay keeps the newest
statement under each key, and every client verifies it as of the time at which it was taken in.
"""

from __future__ import annotations

from crypto import codec
from crypto.statement_types import StatementType
from protocol.commands import decode_command, decode_wipe_order
from protocol.identifiers import DeviceId


def order_key(device: DeviceId) -> bytes:
    """Return the key under which a device's wipe order stands."""
    return codec.u8(StatementType.WIPE_ORDER) + device.encode("ascii")


def command_key(kind: int, name: str) -> bytes:
    """Return the key under which a command stands.

    Args:
        kind: Its class's ``KIND``.
        name: Its ``standing``, of ASCII.
    """
    return codec.u8(StatementType.COMMAND) + codec.u8(kind) + name.encode("ascii")


def standing_key(kind: StatementType, body: bytes) -> bytes | None:
    """Return the key under which a statement stands, or ``None`` for one that is done with.

    Args:
        kind: Its type.
        body: Its body, verified.

    Raises:
        DecodeError: The body is none of that type.
        InvalidError: A name in it breaks its rule.
    """
    head = codec.u8(kind)
    if kind is StatementType.REVOCATION_LIST:
        return head
    if kind is StatementType.WIPE_ORDER:
        return order_key(decode_wipe_order(body).device)
    if kind is not StatementType.COMMAND:
        return None
    command = decode_command(body)
    name = command.standing
    return None if name is None else command_key(command.KIND, name)
