"""What the archive knows of a conversation beside its messages: epochs, members, pages' courses."""

from __future__ import annotations

from typing import Any

from archive.index import Index, Place
from archive.opening_handout import HandingOut
from archive.opening_reading import plain
from archive.record import RecordType
from archive.scope import body_at
from archive.store import Store
from crypto.certificate import Root, decode_certificate
from crypto.errors import CryptoError
from protocol.oncall.page_event import PageEvent


def history(store: Store, group_id: bytes, *, from_ms: int, until_ms: int) -> list[dict[str, Any]]:
    """Return the course of a conversation's pages: each step, acceptance and escalation.

    Args:
        store: The log's database.
        group_id: The conversation.
        from_ms: First instant.
        until_ms: The instant at which the period ends.
    """
    places = Index(store).places(group_id, from_ms=from_ms, until_ms=until_ms)
    return [_event(store, place) for place in places if place.type is RecordType.ESCALATION]


def _event(store: Store, place: Place) -> dict[str, Any]:
    found = body_at(store, place.index)
    fields: Any = None
    if found is not None:
        try:
            fields = plain(PageEvent.decode(found[2]))
        except CryptoError:
            fields = found[2].hex()
    return {"index": place.index, "sent_ms": place.sent_ms, "kind": "page", "fields": fields}


def members(handing_out: HandingOut, root: Root, group_id: bytes, epoch: int) -> list[str]:
    """Return who was in an epoch: everybody who could read it."""
    names = []
    for member in handing_out.members(group_id, epoch):
        claim = decode_certificate(member.certificate, root=root).claim
        names.append(f"{claim.user}/{claim.device}")
    return sorted(names)
