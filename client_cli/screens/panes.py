"""The desk's panes: conversations beside the open thread, or one of both on a narrow screen."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content as Plain
from textual.screen import Screen
from textual.timer import Timer
from textual.widgets import OptionList, Static

from client import recipients, targets
from client.errors import NotAllowedError
from client.messages import MessageKey
from client.recipients import Caution
from client.views import Change, ChangeKind, Shown
from client.words import (
    EVERYBODY,
    Content,
    ConversationId,
    ConversationType,
    Edit,
    Priority,
    Reply,
    Target,
    Text,
    UserName,
    user_of,
)
from client_cli import actions
from client_cli.failures import explained
from client_cli.rows import (
    MessageRow,
    Reading,
    alarm_line,
    caution_line,
    conversation_row,
    duty_line,
    message_row,
    off_duty_line,
    status_line,
    urgency_word,
    visits_line,
)
from client_cli.screens.lists import Composer, ConversationList, MessageList
from client_cli.screens.sheets import Check
from client_cli.seat import Seat

PAGE = 60
"""Messages that a thread shows at first, and more each time somebody goes beyond them."""

LISTED = 200
"""Conversations that the list shows, the newest: whoever looks for an older one searches."""

SETTLE_S = 0.1
"""Changes that come within this time are shown together: catching up brings thousands a second."""

PRIORITIES = (Priority.ROUTINE, Priority.URGENT, Priority.STAT, Priority.INFO)
"""In the order in which the key goes through them."""

LIST_KEYS = "Enter open  c new  p page a role  b on call  g pages  / search  ? help  l lock"
THREAD_KEYS = "w write  Enter what can I do  n task, result …  f file  m members  Esc back"
COMPOSER_KEYS = "Enter send  Ctrl-J line  Ctrl-T priority  Ctrl-R ask ack  F4 file  Esc thread"


class Panes(Screen[None]):
    """Conversations, thread and composer: what is shown, and sending what was written."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f1", "app.help", "Help"),
        Binding("f8", "alarm", "Go to what is STAT"),
    ]

    def __init__(self, seat: Seat, reading: Callable[[], Reading]) -> None:
        super().__init__()
        self.seat = seat
        self.reading = reading
        self.open: ConversationId | None = None
        self._limit = PAGE
        self.priority = Priority.ROUTINE
        self._asks = False
        self._for = EVERYBODY
        self._replying: Shown | None = None
        self._editing: Shown | None = None
        self._settling: Timer | None = None
        self._list_stale = self._thread_stale = False
        self._stat: list[ConversationId] = []
        self._behind = 0
        self._drafts: dict[ConversationId, str] = {}

    def compose(self) -> ComposeResult:
        """Lay out the top line, list, thread and keys."""
        yield Static(id="top")
        yield Static(id="alarm")
        with Horizontal(id="body"):
            yield ConversationList(id="conversations")
            with Vertical(id="thread"):
                yield Static(id="title")
                yield MessageList(id="messages")
                yield Static(id="writing")
                yield Composer(id="composer", placeholder="Write a message", compact=True)
        yield Static(id="keys")

    def on_mount(self) -> None:
        """Show everything, and go on showing the time."""
        self.show_list()
        self.show_top()
        self.query_one(ConversationList).focus()
        self.set_interval(15.0, self.show_top)

    # -- showing -------------------------------------------------------------------------------

    def changed(self, change: Change) -> None:
        """Show soon what is other than it was."""
        self._list_stale |= change.kind is not ChangeKind.STATUS
        self._thread_stale |= self._list_stale and change.conversation in (None, self.open)
        if self._settling is None:
            self._settling = self.set_timer(SETTLE_S, self._settle)

    def _settle(self) -> None:
        self._settling = None
        if not self.is_mounted:
            return
        self.show_top()
        if self._list_stale:
            self.show_list()
        if self._thread_stale and self.open is not None:
            self.show_thread(follow=False)
        self._list_stale = self._thread_stale = False

    def show_top(self) -> None:
        """Show who is at the device, for what on call, and how the device stands."""
        reading = self.reading()
        name = reading.names.get(self.seat.user, self.seat.user)
        duty = duty_line(self.seat.duty.board(), reading)
        behind = self.seat.status.catching_up
        self._behind = max(self._behind, behind) if behind else 0
        line = status_line(self.seat.status, behind=self._behind)
        status = f"{line}  {reading.clock(reading.now_ms)}"
        left = f" {name} · {duty}"
        room = self.size.width - len(status) - 3
        if len(left) > room:
            left = f"{left[: room - 1]}…"
        gap = " " * max(2, self.size.width - len(left) - len(status) - 1)
        self.query_one("#top", Static).update(Plain(f"{left}{gap}{status}"))

    def show_list(self) -> None:
        """Show the conversations, and above them what is STAT and unread, wherever one is."""
        reading = self.reading()
        rows = [
            (one.conversation.hex(), conversation_row(one, reading))
            for one in self.seat.conversations(LISTED)
        ]
        self.query_one(ConversationList).show(rows)
        stat = self.seat.alarming()
        self._stat = [one.conversation for one in stat]
        alarm = self.query_one("#alarm", Static)
        alarm.display = bool(stat)
        alarm.update(Plain(f" F8  {alarm_line(stat, reading)}"))

    def action_alarm(self) -> None:
        """Open the conversation in which something is STAT and unread."""
        if self._stat:
            self.go(self._stat[0], write=False)

    def show_thread(self, *, follow: bool) -> None:
        """Show the open thread; with ``follow``, its newest message."""
        if self.open is None:
            return
        shown = self.seat.messages(self.open, limit=self._limit)
        # Whoever goes through the thread keeps the mark; whoever writes sees the newest.
        messages = self.query_one(MessageList)
        messages.show(self._rows(shown), follow=follow or not messages.has_focus)
        self._show_title()
        self._show_writing()
        if shown:
            self._note_read(shown[-1].place)

    def _rows(self, shown: Sequence[Shown]) -> list[tuple[str, MessageRow]]:
        reading = self.reading()
        here = {one.key: one for one in shown}
        audience = len(self.others())
        return [
            (
                str(index),
                message_row(
                    one,
                    reading,
                    quoted=here.get(one.reply_to) if one.reply_to else None,
                    audience=audience,
                ),
            )
            for index, one in enumerate(shown)
        ]

    def _show_title(self) -> None:
        if self.open is None:
            return
        summary = self.seat.summary(self.open)
        patient = f"  Patient {summary.patient}" if summary.patient else ""
        archive = any(member.is_recorder for member in self.seat.members(self.open))
        kept = "archived" if archive else "ARCHIVE MISSING: nothing can be sent"
        people = f"{summary.people} {'person' if summary.people == 1 else 'people'}, {kept}"
        if summary.opening:
            people = "being set up; it goes out once their device has been on"
        if summary.returning:
            people = "this device is being let back in; until then it sends nothing"
        visits = [] if summary.ended else self.seat.emergency.visits(self.open)
        guests = visits_line(visits, self.reading())
        title = f" {summary.title or 'No title yet'}{patient}  ({people})"
        title += f"\n {guests}" if guests else ""
        self.query_one("#title", Static).update(Plain(title))

    def _show_writing(self) -> None:
        barred = self._barred()
        self.query_one(Composer).disabled = bool(barred)
        if barred:
            self.query_one("#writing", Static).update(Plain(f" {barred}"))
            self.set_class(False, "-stat")
            return
        parts = []
        if self._editing is not None:
            parts.append("CHANGING your message")
        if self._replying is not None:
            reading = self.reading()
            who = reading.name(user_of(self._replying.sender))
            parts.append(f"replying to {who}: {self._replying.text.splitlines()[0][:30]}")
        parts.append(f"priority {urgency_word(self.priority) or 'routine'}")
        if self._for != EVERYBODY:
            meant = self.reading().all(self.seat.duty.meant(self._for) or ())
            parts.append(f"for {targets.words(self._for, self.reading().names)}: {meant}")
        if self._asks:
            parts.append("asks for an acknowledgement")
        away = off_duty_line(self._off_duty(), self.reading())
        if away:
            parts.append(away)
        self.query_one("#writing", Static).update(Plain(" " + "  ·  ".join(parts)))
        self.set_class(self.priority is Priority.STAT, "-stat")

    def _barred(self) -> str:
        """Return why this person may say nothing in the open conversation; empty where they may."""
        if self.open is None:
            return ""
        try:
            self.seat.rights.check_sending(self.seat.summary(self.open).kind)
        except NotAllowedError as error:
            return str(explained(error))
        return ""

    def on_descendant_focus(self) -> None:
        """Say which keys there are where the focus is now."""
        focused = self.focused
        keys = LIST_KEYS
        if isinstance(focused, MessageList):
            keys = THREAD_KEYS
        elif isinstance(focused, Composer):
            keys = COMPOSER_KEYS
        self.query_one("#keys", Static).update(Plain(f" {keys}"))

    # -- going ---------------------------------------------------------------------------------

    @on(OptionList.OptionSelected, "#conversations")
    def opened(self, event: OptionList.OptionSelected) -> None:
        """Open the chosen conversation."""
        self.go(ConversationId(bytes.fromhex(event.option.id or "")))

    def go(self, conversation: ConversationId, *, write: bool = True) -> None:
        """Open a conversation, and its composer."""
        composer = self.query_one(Composer)
        if self.open is not None:
            self._drafts[self.open] = composer.text
        self.open = conversation
        self._limit = PAGE
        self._fresh()
        composer.text = self._drafts.get(conversation, "")
        self.set_class(True, "-reading")
        self.show_thread(follow=True)
        (composer if write and not composer.disabled else self.query_one(MessageList)).focus()

    def action_close_thread(self) -> None:
        """Go back to the list."""
        self.set_class(False, "-reading")
        self.query_one(ConversationList).focus()
        self.show_list()

    def action_write(self) -> None:
        """Go to the composer."""
        self.query_one(Composer).focus()

    def action_leave_composer(self) -> None:
        """Go to the thread; what was begun stays, a reply or a change is let go."""
        self._replying = self._editing = None
        self._show_writing()
        self.query_one(MessageList).focus()

    @on(MessageList.Earlier)
    def earlier(self) -> None:
        """Show more of what was before."""
        self._limit += PAGE
        self.show_thread(follow=False)

    def action_priority(self) -> None:
        """Go to the next priority."""
        place = PRIORITIES.index(self.priority)
        self.priority = PRIORITIES[(place + 1) % len(PRIORITIES)]
        self._show_writing()

    def action_ask(self) -> None:
        """Ask for an acknowledgement, or no longer."""
        self._asks = not self._asks
        self._show_writing()

    # -- sending -------------------------------------------------------------------------------

    @on(Composer.Written)
    def written(self, event: Composer.Written) -> None:
        """Send what was written, after the recipient check."""
        self._send(event.text)

    @work(exclusive=True, group="send")
    async def _send(self, text: str) -> None:
        if self.open is None:
            return
        conversation = self.open
        cautions = self._cautions(text)
        if cautions:
            cover = self._covers(cautions)
            check = self.check(cautions, cover=cover)
            agreed: bool | None = await self.app.push_screen_wait(check)
            if check.diverted and cover is not None:
                await self._divert(text, cover)
            if not agreed:
                return
        content = self._content(text)
        sent = await self.tried(
            self.seat.send(
                conversation,
                content,
                priority=self.priority,
                target=EVERYBODY if self._editing is not None else self.target(text),
                acknowledgement_asked=self._asks,
            )
        )
        if sent:
            self._drafts.pop(conversation, None)
            self.query_one(Composer).text = ""
            self._fresh()
            self.show_thread(follow=True)

    def _content(self, text: str) -> Content:
        if self._editing is not None:
            return Edit(target=actions.reference(self._editing), text=text)
        if self._replying is not None:
            return Reply(to=actions.reference(self._replying), text=text)
        return Text(text=text)

    async def tried(self, deed: Awaitable[object]) -> bool:
        """Do something, and say in a sentence what went wrong; return whether it was done."""
        try:
            await deed
        except OSError as error:
            text = f"That file cannot be read or written: {error.strerror or 'no reason given'}."
            self.notify(text, severity="error", timeout=8)
            return False
        except Exception as error:
            failure = explained(error)
            if failure is None:
                raise
            self.notify(str(failure), severity="error", timeout=8)
            return False
        return True

    async def agreed(self, cautions: Sequence[Caution]) -> bool:
        """Ask once more, with what should be known first."""
        agreed: bool | None = await self.app.push_screen_wait(self.check(cautions))
        return bool(agreed)

    def check(self, cautions: Sequence[Caution], *, cover: UserName | None = None) -> Check:
        """Return the question; with ``cover`` it offers to send to that person instead."""
        reading = self.reading()
        lines = [caution_line(caution, reading) for caution in cautions]
        divert = "" if cover is None else f"to {reading.name(cover)} instead"
        return Check("Before this goes out", lines, go_on="send it all the same", divert=divert)

    def _covers(self, cautions: Sequence[Caution]) -> UserName | None:
        """Return who covers for the one who is off duty, where that is one person's message."""
        covers = [user for one in cautions for user in one.covers if user != self.seat.user]
        return covers[0] if covers else None

    async def _divert(self, text: str, cover: UserName) -> None:
        """Go to whoever covers, with what was written; it is looked at and sent there."""
        priority = self.priority
        found: list[ConversationId] = []

        async def begin() -> None:
            found.append(await self.with_person(cover))

        if await self.tried(begin()):
            self.query_one(Composer).text = ""
            self._drafts[found[0]] = text
            self.go(found[0])
            self.priority = priority
            self._show_writing()
            self.notify(f"This goes to {self.reading().name(cover)}: Enter sends it.")

    async def with_person(self, user: UserName) -> ConversationId:
        """Return the direct conversation with somebody; it is begun where there is none."""
        known = self.direct(user)
        if known is not None:
            return known
        return await self.seat.start(ConversationType.DIRECT, [user])

    def direct(self, user: UserName) -> ConversationId | None:
        """Return the direct conversation with somebody, where there is one."""
        known = (one for one in self.seat.conversations() if one.peer == user and not one.ended)
        return next((one.conversation for one in known), None)

    def _cautions(self, text: str) -> list[Caution]:
        """Return what is worth a question: in a group a routine message is not, a line says it."""
        if self.open is None:
            return []
        found: list[Caution] = []
        if "@" in text:
            everybody = self.seat.directory()
            found = recipients.outside(text, members=self.members(), everybody=everybody)
        direct = self.seat.summary(self.open).kind is ConversationType.DIRECT
        meant = self.meant(text)
        if meant is not None:
            found += recipients.absent(
                meant, members=self.members(), everybody=self.seat.directory()
            )
        if direct or meant is not None or self.priority >= Priority.URGENT:
            found += self._off_duty()
        return found

    def target(self, text: str) -> Target:
        """Return whom a text is meant for: it begins with ``@icu``, ``@icu:next``, ``@ann``."""
        if not text.startswith("@"):
            return EVERYBODY
        roles = [view.role for view in self.seat.duty.board()]
        return targets.addressed(text, roles=roles, users=self.members())

    def meant(self, text: str) -> Sequence[UserName] | None:
        """Return whom a text alerts; None for everybody."""
        target = self.target(text)
        return None if target == EVERYBODY else self.seat.duty.meant(target)

    @on(Composer.Changed)
    def typed(self, event: Composer.Changed) -> None:
        """Say for whom the message is as soon as that is written."""
        if self._for != (target := self.target(event.text_area.text)):
            self._for = target
            self._show_writing()

    def _off_duty(self) -> list[Caution]:
        meant = self.meant(self.query_one(Composer).text)
        others = self.others() if meant is None else [u for u in meant if u != self.seat.user]
        if len(others) > recipients.ASKED_ABOUT:
            return []
        reach = self.seat.duty.reach(others, self.priority)
        return recipients.off_duty(reach, self.reading().names)

    def members(self) -> list[UserName]:
        """Return who is in the open conversation."""
        if self.open is None:
            return []
        return [one.user for one in self.seat.members(self.open) if not one.is_recorder]

    def others(self) -> list[UserName]:
        """Return who is in the open conversation, without this person."""
        return [user for user in self.members() if user != self.seat.user]

    def _fresh(self) -> None:
        self.priority = Priority.ROUTINE
        self._asks = False
        self._replying = self._editing = None

    @work(group="reading")
    async def _note_read(self, place: int) -> None:
        if self.open is not None and self.seat.summary(self.open).unread:
            await self.tried(self.seat.mark_read(self.open, place))

    # -- for what is done with messages --------------------------------------------------------

    def marked(self) -> Shown | None:
        """Return the message under the mark."""
        messages = self.query_one(MessageList)
        if self.open is None or messages.highlighted is None:
            return None
        shown = self.seat.messages(self.open, limit=self._limit)
        return shown[messages.highlighted] if messages.highlighted < len(shown) else None

    def reply_to(self, shown: Shown) -> None:
        """Begin a reply."""
        self._replying, self._editing = shown, None
        self._show_writing()
        self.query_one(Composer).focus()

    def change(self, shown: Shown) -> None:
        """Begin to change an own message."""
        self._editing, self._replying = shown, None
        self.query_one(Composer).text = shown.text
        self._show_writing()
        self.query_one(Composer).focus()

    def find(self, key: MessageKey) -> None:
        """Open the thread of a message that was searched for, far enough back to show it."""
        self.go(key.conversation, write=False)
        while not any(
            one.key == key for one in self.seat.messages(key.conversation, limit=self._limit)
        ):
            before = len(self.seat.messages(key.conversation, limit=self._limit))
            self._limit += PAGE
            if len(self.seat.messages(key.conversation, limit=self._limit)) == before:
                break
        self.show_thread(follow=False)
        shown = self.seat.messages(key.conversation, limit=self._limit)
        places = [index for index, one in enumerate(shown) if one.key == key]
        if places:
            self.query_one(MessageList).highlighted = places[0]
