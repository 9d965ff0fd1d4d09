"""Who was in a conversation in one epoch: body of a ``ROSTER`` record.

Members stand by their certificates' fingerprints; each certificate is a record of its own, found by
that fingerprint, which is the hash of its body. Whoever opens a segment so knows whose signature
each message bears, without the relay or the authority.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from crypto.certificate import FINGERPRINT_BYTES, fingerprint
from crypto.codec import U8, U64, Opaque, Reader, Struct, u32, vector_of
from crypto.errors import InvalidError
from crypto.mls import Group
from protocol.group_context import EXTENSION_TYPE, WardlineContext

VERSION = 1


def _read_member(reader: Reader) -> tuple[int, bytes]:
    return reader.u32(), reader.take(FINGERPRINT_BYTES)


def _write_member(member: tuple[int, bytes]) -> bytes:
    return u32(member[0]) + member[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Roster(Struct):
    """The members of one epoch.

    Attributes:
        version: ``VERSION``.
        group_id: The MLS group ...
        epoch: ... and its epoch.
        context: Encoding of the conversation's ``WardlineContext``.
        members: Leaf index and certificate's fingerprint, by ascending index.
    """

    version: U8 = VERSION
    group_id: Opaque = field(repr=False)
    epoch: U64
    context: Opaque = field(repr=False)
    members: Annotated[tuple[tuple[int, bytes], ...], vector_of(_read_member, _write_member)] = (
        field(repr=False)
    )

    def __post_init__(self) -> None:
        places = [place for place, _ in self.members]
        if self.version != VERSION or places != sorted(set(places)):
            raise InvalidError("a roster has a known version and one member a leaf")

    @classmethod
    def of(cls, group: Group) -> Roster:
        """Return the roster of a group's present epoch.

        Raises:
            InvalidError: It is no conversation, or a leaf has not exactly one certificate.
        """
        return cls(
            group_id=group.group_id,
            epoch=group.epoch,
            context=context_of(group).encode(),
            members=tuple(
                (int(at), fingerprint(_certificate(leaf.credential.certificates)))
                for at, leaf in group.members
            ),
        )


def _certificate(certificates: tuple[bytes, ...]) -> bytes:
    if len(certificates) != 1:
        raise InvalidError("a leaf has one certificate, the root is pinned (RFC 9420, 5.3)")
    return certificates[0]


def context_of(group: Group) -> WardlineContext:
    """Return the conversation's settings, as its members agree on them.

    Raises:
        DecodeError: They are malformed.
        InvalidError: There are none, or one breaks its rule.
    """
    for extension in group.context.extensions:
        if extension.extension_type == EXTENSION_TYPE:
            return WardlineContext.decode(extension.extension_data)
    raise InvalidError("a conversation has Wardline's context")
