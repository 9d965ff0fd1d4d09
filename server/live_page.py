"""A page under way as the relay holds it, the fact that keeps it, and the clock of its delays."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from crypto import codec
from crypto.codec import Reader, map_of
from protocol.identifiers import ConversationId, RoleName, UserName
from protocol.oncall.kept import PAGE_VERSION, marked, unmarked
from protocol.oncall.page_event import PageState
from protocol.oncall.wall_clock import DAY_MS
from protocol.oncall.wire import ROLE, USERS
from server.directory import PAGE, Organisation
from server.store import Fact, LogKey

OVER = b"\x00"
"""First octet of the fact of a page that has ended, and then when: its conversation starts no other
while anything of it may still be here."""
OVER_BYTES = 9
LATE_MS = DAY_MS
"""How long, in ms, something may have been due when the relay starts, as from an old backup, for
its people still to be alarmed that the page has ended meanwhile."""
KEPT_LONGER_MS = DAY_MS
"""How much longer, in ms, a page that has ended is known than its messages are kept."""


Holding = Mapping[RoleName, tuple[UserName, ...]]
"""Who has a page, or is asked by it, for which role."""

_HOLDING = map_of(ROLE, USERS)


class PageClock:
    """The wall's clock, which goes on where that is set back.

    Nobody waits an hour for the next step because a clock was corrected by one: neither at a relay
    that runs, nor at one that was started anew since, which goes on from what its pages say.
    """

    def __init__(self) -> None:
        self._ahead_ms = 0
        self._last_ms = 0

    def resume(self, written_ms: int) -> None:
        """Go on from no earlier than an instant at which a page was written."""
        self._last_ms = max(self._last_ms, written_ms)

    def now_ms(self, wall_ms: int) -> tuple[int, bool]:
        """Return the clock, and whether the wall's was found set back since the last time."""
        set_back = wall_ms + self._ahead_ms < self._last_ms
        if set_back:
            self._ahead_ms = self._last_ms - wall_ms
        self._last_ms = wall_ms + self._ahead_ms
        return self._last_ms, set_back

    def reset(self) -> None:
        """Be the wall's again, once no page is under way."""
        self._ahead_ms = self._last_ms = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What a start asks of a page's fact: of a hundred thousand it reads no more than this.

    Attributes:
        due_ms: When something is next due.
        written_ms: When it was written, by the clock of pages.
        held_by: Who has it, or is asked by it.
        holding: For which role they are, of those whose shift has not ended.
    """

    due_ms: int
    written_ms: int
    held_by: tuple[UserName, ...]
    holding: Holding


def page_fact(conversation: ConversationId, state: PageState, *, at_ms: int) -> Fact:
    """Return where a page stands as it is stored, its head first."""
    due_ms = state.due_ms
    if due_ms is None:
        return Fact(key=PAGE + conversation, value=over(at_ms))
    page = state.page
    people = USERS.write(page.held_by) + _HOLDING.write(page.on_duty())
    head = codec.u64(due_ms) + codec.u64(at_ms) + people
    value = marked(PAGE_VERSION, head + state.encode())
    return Fact(key=PAGE + conversation, value=value)


def over(at_ms: int) -> bytes:
    """Return the fact of a page that has ended."""
    return OVER + codec.u64(at_ms)


def is_over(stored: bytes) -> bool:
    """Tell whether a fact is a page's that has ended."""
    return len(stored) <= OVER_BYTES


def over_facts(organisation: Organisation, *, before_ms: int) -> list[Fact]:
    """Return what forgets the pages of an organisation that ended before an instant."""
    return [
        Fact(key=PAGE + conversation, value=None)
        for conversation, stored in organisation.pages.items()
        if is_over(stored) and int.from_bytes(stored, "big") < before_ms
    ]


def read_head(stored: bytes) -> Head:
    """Return the head of the fact of a page that has not ended.

    One of before there were versions is read whole: a start refuses what a timer could not read.

    Raises:
        DecodeError: It is no such fact.
        VersionError: A newer program wrote it.
        InvalidError: It breaks a rule.
    """
    version, body = unmarked(stored, known=PAGE_VERSION)
    if not version:
        read_state(stored)
    reader = Reader(body, "Head")
    return Head(
        due_ms=reader.u64(),
        written_ms=reader.u64(),
        held_by=USERS.read(reader),
        holding=_HOLDING.read(reader),
    )


def read_state(stored: bytes) -> PageState:
    """Return where a page that has not ended stands, from its fact.

    Raises:
        DecodeError: It is no such fact.
        VersionError: A newer program wrote it.
        InvalidError: It breaks a rule.
    """
    reader = Reader(unmarked(stored, known=PAGE_VERSION)[1], "PageState")
    reader.take(16)
    reader.opaque()
    reader.opaque()
    state = PageState.read(reader)
    reader.finish()
    return state


@dataclass(slots=True, repr=False, eq=False)
class Live:
    """A page that has not ended.

    Attributes:
        organisation: Whose it is.
        key: Its conversation's log.
        due_ms: When something is next due.
        state: Where it stands; ``None`` until it is first looked at after a start.
        stored: Its fact, until then.
        late: Whether a start found it so late that its end is nobody's to hear of.
        lock: Held by whoever changes it.
    """

    organisation: Organisation
    key: LogKey
    due_ms: int
    state: PageState | None = None
    stored: bytes = b""
    late: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def conversation(self) -> ConversationId:
        """The page's conversation."""
        return ConversationId(self.key.id[1:])

    def read(self) -> PageState:
        """Return where the page stands."""
        if self.state is None:
            self.state = read_state(self.stored)
            self.stored = b""
        return self.state
