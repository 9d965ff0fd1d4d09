"""Pages, and who is on call: what ``client.pages`` asks of a device."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Mapping

from client import page_course
from client.engine import Engine
from client.errors import ActError, DamagedError, LinkError, NewerVersionError
from client.page_course import Course
from client.pages import Pages
from client.views import Change, ChangeKind
from crypto.errors import DecodeError, InvalidError
from protocol.authenticated_data import Priority
from protocol.content import Kind
from protocol.frames import Attention, Deliver, Frame, Ring
from protocol.identifiers import ConversationId, user_of
from protocol.oncall.kept import PAGE_VERSION, VersionError, marked, unmarked
from protocol.oncall.page_state import Event

PAGE = "page"
"""Rows of the cache: the course of each page."""

FIRST_LOOK = 16
"""Messages from the beginning of a page among which its text stands."""


class Paging:
    """Keeps the course of every page that this device is a member of.

    Attributes:
        duty: What answers pages; set once it is there.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._store = engine.store
        self._user = user_of(engine.me)
        self._courses: dict[ConversationId, Course] = {}
        self._work: set[asyncio.Task[None]] = set()
        self.duty: Pages | None = None
        for row in self._store.cache.all(PAGE):
            course = _course(row.value)
            if course is not None:
                self._courses[ConversationId(row.key)] = course
        engine.following.on_page = self.take
        engine.on_ring = self.ring

    @property
    def courses(self) -> Mapping[ConversationId, Course]:
        """Every page, by its conversation."""
        return self._courses

    def take(self, conversation: ConversationId, entry: Deliver) -> None:
        """Take in what the relay says of a page; what makes no sense changes nothing."""
        before = self._courses.get(conversation)
        try:
            course = page_course.taken(before, entry.body, sequence=entry.sequence)
        except (DecodeError, InvalidError):
            return
        kept = marked(PAGE_VERSION, course.encode())
        self._store.cache.update(PAGE, {conversation: kept}, at_ms=self._engine.clock())
        self._courses[conversation] = course
        # A page that asks this person shows from now on.
        for kind in (ChangeKind.PAGE, ChangeKind.CONVERSATIONS):
            self._engine.changes.tell(Change(kind=kind, conversation=conversation))
        asked = before is not None and page_course.asks(before, self._user)
        if page_course.asks(course, self._user) and not asked:
            self._asks(conversation, course, entry)
        if course.missing and self.duty is not None:
            self._begin(self.duty.mend(conversation))

    def _asks(self, conversation: ConversationId, course: Course, entry: Deliver) -> None:
        if entry.attention == Attention.ALERT:
            self._engine.changes.tell(
                Change(
                    kind=ChangeKind.ALERT,
                    conversation=conversation,
                    priority=course.state.page.priority,
                )
            )
        if self.duty is not None:
            self._begin(self.duty.answer(conversation, Event.DELIVER))

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        """Let something be done beside the loop; what fails is done at the next entry."""

        async def quietly() -> None:
            with contextlib.suppress(ActError, LinkError, InvalidError):
                await work

        task = asyncio.ensure_future(quietly())
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    def ring(self, frame: Frame) -> None:
        """Alert for a page whose conversation may not be here yet."""
        if isinstance(frame, Ring):
            known = {int(priority): priority for priority in Priority}
            self._engine.changes.tell(
                Change(
                    kind=ChangeKind.ALERT,
                    conversation=ConversationId(frame.conversation) or None,
                    priority=known.get(frame.priority, Priority.STAT),
                )
            )

    def text(self, conversation: ConversationId) -> str:
        """Return what a page says; empty where it has not been read."""
        course = self._courses.get(conversation)
        found = self._store.messages.of_kind(conversation, Kind.TEXT, limit=FIRST_LOOK)
        for message in reversed(found):
            if course is None or user_of(message.key.sender) == course.state.page.sender:
                return message.content.text
        return ""


def _course(row: bytes) -> Course | None:
    """Return a page's course; None for one of before there were versions that nothing reads now.

    The relay's next entry says again where the page stands.

    Raises:
        DamagedError: It is not what was written.
        NewerVersionError: A newer program wrote it.
    """
    version = 0
    try:
        version, body = unmarked(row, known=PAGE_VERSION)
        return Course.decode(body)
    except VersionError as error:
        raise NewerVersionError(found=error.found, known=error.known) from None
    except (DecodeError, InvalidError):
        if version:
            raise DamagedError("database") from None
        return None
