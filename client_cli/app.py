"""The terminal program: what lies over its screens, and what follows the device."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import tzinfo
from enum import Enum
from typing import ClassVar, Protocol

from textual import on, work
from textual.binding import Binding, BindingType
from textual.events import Event, Key, MouseDown

from client.clocks import awake_ms, now_ms
from client.duty import PageView
from client.errors import ClosedError, NotMemberError, StoreError, SuspendedError, UnsentError
from client.lock import AutoLock
from client.views import Change, ChangeKind
from client.words import Code, ConversationId, PageEvent, PagePlace, RoleName
from client_cli.discreet import Discreet
from client_cli.failures import explained
from client_cli.output import CommandError
from client_cli.quiet import QUIET_S
from client_cli.rows import MINUTE_MS, Reading, digest_lines, names_of
from client_cli.screens.desk import Desk
from client_cli.screens.page_alert import PageAlert
from client_cli.screens.sheets import Check, Menu, Sheet
from client_cli.seat import Seat
from client_cli.texts import HELP, OVER, REMOVES, TOUR, UNSENT
from client_cli.themes import DARK, LIGHT

AUTO_LOCK_MS = 5 * MINUTE_MS
"""Without a key for so long, the device locks: a ward round's stop at one bed."""

LATER_MS = MINUTE_MS
"""A page that was put off comes back after this, while it still asks for an answer."""

WATCH_S = 5.0
"""Seconds between two looks at what is due: the lock, and pages that were put off."""

TEND_S = 60.0
"""Seconds between two looks at policy and roster: a lease outlives its shift by less than that."""

OVER_S = 20.0
"""Seconds for which it is said that the shift is over."""

NARROW, WIDE = "-narrow", "-wide"
WIDE_COLUMNS = 110
"""From here on, list and thread stand side by side, each at least 50 columns."""


class Ending(Enum):
    """What becomes of the store when the program ends; it is closed where neither is said."""

    LOCK = "lock"
    REMOVE = "remove"


class GiveUp(Protocol):
    """Decides that a store is removed."""

    async def __call__(self, *, lose_unsent: bool) -> None:
        """Decide it; ``UnsentError`` where something would be lost and nobody has agreed."""


async def _kept(*, lose_unsent: bool) -> None:
    """Give nothing up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How the program behaves.

    Attributes:
        clock: Gives now, milliseconds since the epoch.
        zone: Of the times that are shown; the machine's where None.
        lock_after_ms: Without a key for so long, the device locks.
        quiet_s: How long nothing must be typed before a page takes an answer.
        tour: Whether this is the first run.
        tend: Called once a minute, for what policy and roster ask of the device itself.
        shift_ends: When this person's shift ends as the rosters say, milliseconds since the epoch;
            ``None`` where none says, 0 off duty.
        light: Whether it begins light.
        keep_light: Told whether it is light now, for the next time.
        removes: Whether signing out removes the store, as policy says of shared workstations.
        over: Whether it is removed however this person leaves: their shift has ended.
        give_up: Decides the removal, and tells the organisation.
    """

    clock: Callable[[], int] = now_ms
    zone: tzinfo | None = None
    lock_after_ms: int = AUTO_LOCK_MS
    quiet_s: float = QUIET_S
    tour: bool = False
    tend: Callable[[], None] = lambda: None
    shift_ends: Callable[[], int | None] = lambda: None
    light: bool = False
    keep_light: Callable[[bool], None] = lambda _: None
    removes: Callable[[], bool] = lambda: False
    over: Callable[[], bool] = lambda: False
    give_up: GiveUp = _kept


class Wardline(Discreet[Ending]):
    """The program over an open device; ``run`` returns what is to become of the store."""

    CSS_PATH = "wardline.tcss"
    TITLE = "Wardline"
    ENABLE_COMMAND_PALETTE = False
    HORIZONTAL_BREAKPOINTS = [(0, NARROW), (WIDE_COLUMNS, WIDE)]  # noqa: RUF012 - Textual's way
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+l", "lock", "Lock", priority=True),
        Binding("ctrl+o", "sign_out", "Sign out", priority=True),
        Binding("ctrl+q", "quit", "Quit", priority=True),
        Binding("f1", "help", "Help"),
        Binding("f9", "light", "Light or dark"),
    ]

    def __init__(self, seat: Seat, manner: Manner | None = None) -> None:
        super().__init__()
        self.seat = seat
        self.manner = manner or Manner()
        self._names = names_of(seat.directory())
        self._shift_ends_ms = self.manner.shift_ends()
        self._told: set[ConversationId] = set()
        self._shut_out = ""
        self._put_off: dict[ConversationId, int] = {}
        self._auto_lock = AutoLock(after_ms=self.manner.lock_after_ms, used_ms=awake_ms())
        self.desk = Desk(seat, self.reading)
        self.register_theme(LIGHT)
        self.register_theme(DARK)
        self.theme = LIGHT.name if self.manner.light else DARK.name

    def reading(self) -> Reading:
        """Return by what rows are worded now."""
        return Reading(
            me=self.seat.user,
            names=self._names,
            now_ms=self.manner.clock(),
            zone=self.manner.zone,
        )

    def on_mount(self) -> None:
        """Show the desk; connecting waits until it is there."""
        self.push_screen(self.desk)
        self._follow(self.seat.watch())
        if self.manner.tour:
            self.push_screen(Sheet("How Wardline works", TOUR))
        self.call_after_refresh(self._begin)

    def _begin(self) -> None:
        """Let the device live, and look at what is due."""
        self._live()
        self.set_interval(WATCH_S, self._look)
        self.set_interval(TEND_S, self._tend)
        self._look()
        self._digest()

    # -- following -----------------------------------------------------------------------------

    @work(group="device")
    async def _live(self) -> None:
        """Let the device live; where the relay will not have it any more, say why."""
        try:
            await self.seat.run()
        except Exception as error:
            failure = explained(error)
            if failure is None:
                raise
            if isinstance(error, StoreError):
                # Nothing can be read of a store that failed, until it is opened again.
                await self.push_screen_wait(Sheet("Locked", [str(failure)]))
                self.action_lock()
                return
            if _is_shut_out(error):
                # Nothing stays open of a device that may be in other hands; the lock screen says
                # why, and follows the order that may come.
                self.action_lock()
                return
            await self._say_why(failure)

    async def _say_why(self, why: CommandError) -> None:
        lines = [str(why), "", "What is on this device can still be read."]
        await self.push_screen(Sheet("No longer connected", lines))

    async def _look_at_status(self) -> None:
        """Say once why the relay does not let the device in; it goes on asking by itself."""
        why = self.seat.status.shut_out
        failure = None if why is None else explained(why)
        said, self._shut_out = self._shut_out, str(failure or "")
        if failure is not None and str(failure) != said:
            await self._say_why(failure)

    @work(group="device")
    async def _follow(self, changes: AsyncIterator[Change]) -> None:
        async for change in changes:
            if change.kind is ChangeKind.DIRECTORY:
                self._names = names_of(self.seat.directory())
            if change.kind is ChangeKind.STATUS:
                await self._look_at_status()
            self._changed(change)

    def _changed(self, change: Change) -> None:
        self.desk.changed(change)
        if change.kind in (ChangeKind.PAGE, ChangeKind.ALERT):
            self._show_pages()
        if change.kind is ChangeKind.ALERT:
            self.bell()

    def _look(self) -> None:
        if self._auto_lock.is_due(awake_ms()):
            self.action_lock()
        self._show_pages()

    def _tend(self) -> None:
        try:
            self.manner.tend()
        except StoreError:
            # It failed, and is opened anew: the lock screen says what is the matter with it.
            self.exit(result=Ending.LOCK)
            return
        self._end_shift()
        self._digest()

    def _end_shift(self) -> None:
        """Lock once when the shift ends: whoever goes on working opens again with the PIN.

        Where the store is removed after the shift nobody could, so whoever is still at it ends.
        """
        before_ms, self._shift_ends_ms = self._shift_ends_ms, self.manner.shift_ends()
        now_ms = self.manner.clock()
        goes_on = self._shift_ends_ms is not None and self._shift_ends_ms > now_ms
        if before_ms and before_ms <= now_ms and not goes_on:
            if self.manner.over():
                self.notify(OVER, timeout=OVER_S)
            else:
                self.action_lock()

    def _digest(self) -> None:
        """Say what was held while this person was off duty, once it is held no longer."""
        waiting = self.seat.released()
        new = {one.conversation for one in waiting} - self._told
        self._told = {one.conversation for one in waiting}
        if new:
            lines = [*digest_lines(waiting), "", "They are unread in their conversations."]
            self.push_screen(Sheet("While you were off duty", lines))
            self.desk.show_list()

    # -- pages ---------------------------------------------------------------------------------

    def _show_pages(self) -> None:
        """Lay the most urgent page that asks for an answer over everything else.

        One that is less urgent than what is shown waits; none covers what is asked about itself.
        """
        alerts = [screen for screen in self.screen_stack if isinstance(screen, PageAlert)]
        pages = {page.conversation: page for page in self.seat.duty.pages()}
        for alert in alerts:
            alert.show(pages.get(alert.page.conversation, alert.page))
        now_ms = self.manner.clock()
        asking = (
            page
            for page in pages.values()
            if page.alerting and self._put_off.get(page.conversation, 0) <= now_ms
        )
        page = next(asking, None)
        open_ones = [alert.page.priority for alert in alerts if alert.page.alerting]
        if page is not None and all(page.priority > priority for priority in open_ones):
            self.show_page(page)

    def show_page(self, page: PageView) -> None:
        """Lay a page over everything else."""
        later_ms = self.manner.clock() + LATER_MS

        def put_off(_: None) -> None:
            self._put_off[page.conversation] = later_ms

        alert = PageAlert(page, reading=self.reading, quiet_s=self.manner.quiet_s)
        self.push_screen(alert, put_off)
        if page.mine in (PagePlace.SENT, PagePlace.DELIVERED):
            self._tell_shown(page.conversation)

    @work(group="shown")
    async def _tell_shown(self, conversation: ConversationId) -> None:
        """Let the sender know that the page is on a screen."""
        await self.desk.tried(self.seat.duty.answer(conversation, PageEvent.SHOW))

    @on(Desk.ShowPage)
    def chosen(self, event: Desk.ShowPage) -> None:
        """Show the page that was chosen from the sheet."""
        self.show_page(event.page)

    @on(PageAlert.Answered)
    def answered(self, event: PageAlert.Answered) -> None:
        """Answer the page."""
        self._answer(event.conversation, event.event)

    @on(PageAlert.Opened)
    def opened(self, event: PageAlert.Opened) -> None:
        """Open the page's thread."""
        self._close_alert(event.conversation)
        self.desk.go(event.conversation, write=False)

    @work(exclusive=True, group="answer")
    async def _answer(self, conversation: ConversationId, event: PageEvent) -> None:
        to: RoleName | None = None
        if event is PageEvent.NOT_MINE:
            roles = [(role.role, "", role.role) for role in self.seat.duty.board()]
            choices = [("", "", "I do not know: to the next step"), *roles]
            chosen = await self.push_screen_wait(Menu("Whose is it?", choices))
            if chosen is None:
                return
            to = RoleName(chosen) if chosen else None
        if await self.desk.tried(self.seat.duty.answer(conversation, event, to=to)):
            self._close_alert(conversation)
            if event is PageEvent.ACCEPT:
                self.notify("Accepted. When it is done: g, the page, o.")
                self._open_if_here(conversation)

    def _open_if_here(self, conversation: ConversationId) -> None:
        with suppress(NotMemberError):
            self.seat.summary(conversation)
            self.desk.go(conversation)

    def _close_alert(self, conversation: ConversationId) -> None:
        # Another page may have come over it, which stays.
        if isinstance(self.screen, PageAlert) and self.screen.page.conversation == conversation:
            self.screen.dismiss(None)

    # -- keys ----------------------------------------------------------------------------------

    async def on_event(self, event: Event) -> None:
        """Note that somebody is there."""
        if isinstance(event, Key | MouseDown):
            self._auto_lock = self._auto_lock.used(awake_ms())
        await super().on_event(event)

    def action_help(self) -> None:
        """Show every key."""
        self.push_screen(Sheet("Help", HELP))

    def action_light(self) -> None:
        """Go from light to dark, or back."""
        self.theme = DARK.name if self.theme == LIGHT.name else LIGHT.name
        self.manner.keep_light(self.theme == LIGHT.name)

    def action_lock(self) -> None:
        """Lock: the process that holds the keys ends. After the shift the store may go with it."""
        if self.manner.over():
            self._leave()
        else:
            self.exit(result=Ending.LOCK)

    @work(exclusive=True, group="leave")
    async def _leave(self) -> None:
        """Remove the store; lock it where something in it has not gone out, or the disk fails."""
        try:
            await self.manner.give_up(lose_unsent=False)
        except (UnsentError, StoreError):
            self.exit(result=Ending.LOCK)
        else:
            self.exit(result=Ending.REMOVE)

    @work(exclusive=True, group="sign out")
    async def action_sign_out(self) -> None:
        """Leave this workstation: locked, or with everything removed, as policy says."""
        if not self.manner.removes():
            self.exit(result=Ending.LOCK)
            return
        check = Check("Sign out, and remove your store from here?", REMOVES, go_on="sign out")
        if not await self.push_screen_wait(check):
            return
        await self._sign_out(lose_unsent=False)

    async def _sign_out(self, *, lose_unsent: bool) -> None:
        try:
            await self.manner.give_up(lose_unsent=lose_unsent)
        except UnsentError as error:
            await self._unsent(error.unsent)
        except StoreError as error:
            failure = str(explained(error))
            await self.push_screen_wait(Sheet("Locked, and not removed", [failure]))
            self.exit(result=Ending.LOCK)
        else:
            self.exit(result=Ending.REMOVE)

    async def _unsent(self, unsent: int) -> None:
        """Ask what is to become of messages that have not gone out."""
        what = "1 message has" if unsent == 1 else f"{unsent} messages have"
        chosen = await self.push_screen_wait(Menu(f"{what} not gone out", UNSENT))
        if chosen == "lock":
            self.exit(result=Ending.LOCK)
        elif chosen == "lose":
            await self._sign_out(lose_unsent=True)

    def copy_to_clipboard(self, text: str) -> None:
        """Keep a copied text within the program.

        The terminal's clipboard would hold it after the lock, for everything else to read.
        """
        self._clipboard = text


def _is_shut_out(error: Exception) -> bool:
    """Tell whether the device was suspended, revoked or ordered to be wiped."""
    closed = isinstance(error, ClosedError) and error.code is Code.REVOKED
    return closed or isinstance(error, SuspendedError)
