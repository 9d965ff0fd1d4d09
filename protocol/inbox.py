"""What an inbox holds beside Welcomes: an octet that says what it is, then the thing itself.

A certificate is DER, a request and a statement begin with an organisation's random octets: nothing
about their bytes may decide which of them is meant.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from crypto import codec
from crypto.errors import DecodeError


class ItemKind(IntEnum):
    """What an item of an inbox is."""

    REQUEST = 1
    """A certificate request, from a device to the archive's recorder."""
    CERTIFICATE = 2
    """A certificate, from the recorder to the device that it names."""
    STATEMENT = 3
    """A signed statement: a wipe order, or what a recorder and a device say to each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """The body of a ``MESSAGE`` entry in an inbox, and of a ``Post`` to one.

    Attributes:
        kind: What it is.
        body: Its own encoding; not empty.
    """

    kind: ItemKind
    body: bytes

    def encode(self) -> bytes:
        """Return the item's one encoding."""
        return codec.u8(self.kind) + self.body


def decode_item(data: bytes) -> Item:
    """Return the item that ``data`` encodes; its body is not looked at.

    Raises:
        DecodeError: It begins with no kind, or nothing follows.
    """
    kind = data[:1]
    if len(data) < 2 or kind not in _KINDS:
        raise DecodeError("Item", 0)
    return Item(kind=_KINDS[kind], body=data[1:])


_KINDS = {bytes([kind]): kind for kind in ItemKind}
