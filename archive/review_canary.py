"""The quarterly opening of the canary: offered when it is due, compared when it is released.

It runs beside the process that records, which starts it and never has a session's key.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from enum import Enum
from hashlib import sha256

from msgspec.structs import replace

from archive import canary, intray
from archive.batch import Entry
from archive.canary import Canary
from archive.casework import Casework
from archive.errors import SessionError
from archive.founding import RECORDER
from archive.index import Index
from archive.opening_reading import GENUINE, Line
from archive.opening_records import View
from archive.opening_session import Review
from archive.opening_site import Site
from archive.record import RecordType
from archive.scope import count
from archive.shredding import ARCHIVE_BUCKET
from crypto.errors import CryptoError
from protocol.content import Kind
from protocol.identifiers import ConversationId
from protocol.letters import Notice, Topic, encode_letter
from protocol.opening import HASH_BYTES, Draft, Hits, Offer, Purpose, Scope

BEFORE_MS, AFTER_MS = 3_600_000, 24 * 3_600_000
"""Around the time of writing: the relay's clock is another, and the letter may have waited."""

LINES = 1000
"""Lines of the scope that are looked through."""


class State(Enum):
    """Where the canary is."""

    RESTS = "nothing is due"
    OFFERED = "the officers are asked: one says `wardline officer canary`, k approve and release"
    WAITS = "it waits for the officers"
    RIGHT = "it was opened, and is what was written"
    WRONG = "it was opened, and is not what was written: have the archive audited"


Opening = Callable[[str], AbstractContextManager[Review]]
"""What opens a released request: the review program's way, its record and wait included."""


def step(site: Site, opening: Opening, *, now_ms: int) -> State:
    """Do what is due, and return where the canary is.

    Args:
        site: The installation.
        opening: Opens what officers have released.
        now_ms: Now.

    Raises:
        ArchiveError: A database cannot be used.
        CryptoError: What was released does not verify.
    """
    one = canary.known(site.store)
    if one is None:
        return State.RESTS
    request = _request(site, one)
    if request is not None and _is_released(site, request, now_ms):
        return _open(site, one, request, opening, now_ms=now_ms)
    casework = Casework(site.desk, site.store, site.officers, trust=lambda: site.trust)
    if not casework.is_opening_due(now_ms):
        return State.RESTS
    if one.session and now_ms - one.asked_ms < canary.ASKED_MS:
        return State.WAITS
    return _offer(site, one, now_ms=now_ms)


def scope_of(one: Canary) -> Scope:
    """Return what is to be opened."""
    return Scope(
        conversations=(ConversationId(one.conversation),),
        people=(),
        patient="",
        from_ms=one.planted_ms - BEFORE_MS,
        until_ms=one.planted_ms + AFTER_MS,
    )


def _request(site: Site, one: Canary) -> bytes | None:
    """Return the request for which the canary was offered, once an officer has made it."""
    for key, _, _, request in site.desk.sessions():
        if one.session and key == one.session:
            return request
    return None


def _is_released(site: Site, request: bytes, now_ms: int) -> bool:
    with suppress(CryptoError, SessionError):
        site.handing_out.permit(request, now_ms=now_ms)
        return True
    return False


def _offer(site: Site, one: Canary, *, now_ms: int) -> State:
    """Offer the canary to the officers: to a session of its own, with its hits counted."""
    draft = Draft(
        purpose=Purpose.REVIEW, scope=scope_of(one), nonce=secrets.token_bytes(HASH_BYTES)
    )
    hits: Hits = count(site.store, Index(site.store), draft.scope)
    if not hits.records:
        # It never went out, or its records came from a former log: another is written.
        canary.keep(site.store, replace(one, conversation=b""))
        return State.RESTS
    _end(site, one)
    key = site.sessions.begin()
    site.desk.begin_session(key, now_ms)
    offer = Offer(draft=draft, session_key=key, hits=hits.encode())
    words = "the canary is to be opened: wardline officer canary"
    notice = Notice(topic=Topic.OPENING_DUE, about=draft.nonce, words=words)
    with site.desk.transaction():
        site.desk.keep_hits(hits.hash, hits.encode())
        site.desk.post((*encode_letter(offer), *encode_letter(notice)))
    canary.keep(site.store, replace(one, session=key, asked_ms=now_ms))
    return State.OFFERED


def _open(site: Site, one: Canary, request: bytes, opening: Opening, *, now_ms: int) -> State:
    with opening(request.hex()) as review:
        lines = review.timeline(limit=LINES)
    is_right = one.hash in set(_letters(lines))
    view = View(
        request=request,
        at_ms=now_ms,
        what="canary",
        detail="right" if is_right else "wrong",
        lines=len(lines),
    )
    entry = Entry(type=RecordType.VIEW, body=view.encode(), bucket=ARCHIVE_BUCKET)
    intray.submit(site.store, entry)
    canary.keep(site.store, replace(one, session=b"", opened_ms=now_ms, is_right=is_right))
    _end(site, one)
    return State.RIGHT if is_right else State.WRONG


def _end(site: Site, one: Canary) -> None:
    if one.session:
        site.sessions.end(one.session)
        site.desk.close_session(one.session)


def _letters(lines: list[Line]) -> Iterator[bytes]:
    """Yield the hash of each letter that the archive itself wrote."""
    for line in lines:
        if (line.fault, line.sender, line.kind) != (GENUINE, RECORDER, Kind.OFFICIAL.name.lower()):
            continue
        for letter in line.fields.get("statements", ()):
            yield sha256(bytes.fromhex(letter)).digest()
