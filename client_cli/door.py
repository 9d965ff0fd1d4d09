"""The lock screen: whose device, the PIN, and pages that ring while nobody can read anything.

What shows it never held a key. A locked device says priority and role, takes *accept* and
*decline*, and no more.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol

from textual import events, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen, Screen
from textual.timer import Timer
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option
from textual.worker import Worker

from client.errors import SuspendedError
from client_cli.discreet import Discreet
from client_cli.failures import explained
from client_cli.quiet import BELL_S, QUIET_S
from client_cli.themes import DARK, LIGHT

if TYPE_CHECKING:
    from client.words import ConversationId, PageEvent, Priority, RoleName

TEND_S, FIRST_S = 60.0, 3.0
"""Seconds between two looks at whose shift is over, and to the first: the relay was asked by then
what time it is."""

AGAIN_S = 15.0
"""Seconds until a locked device that lost its connection tries again to be reachable for pages."""

SUSPENDED_S = 1.0
"""The same for one that is suspended and has just waited for an order: to follow it at once."""

NOT_GIVEN_S = 60.0
"""Seconds that an answer which the relay has not is told: until then it has rung again, mostly."""

SILENCE_S = 2.0
"""Seconds that unlocking waits for the connection that rings to end: it is one exchange of frames,
and without network there is nothing to wait for."""


class Rung(Protocol):
    """A page that rings at a locked device."""

    @property
    def conversation(self) -> ConversationId:
        """The page's."""

    @property
    def priority(self) -> Priority:
        """How urgent it is."""

    @property
    def role(self) -> RoleName | None:
        """For whom."""

    @property
    def ended(self) -> bool:
        """Whether it asks no longer."""


class Ringer(Protocol):
    """A locked device's connection."""

    def rings(self) -> AsyncIterator[Rung]:
        """Give what rings."""

    async def reached(self) -> None:
        """Return once the relay hears the device."""

    async def answer(self, conversation: ConversationId, event: PageEvent) -> None:
        """Accept or decline."""


RESTORED = "This device is in use again: its PIN opens it."

Unlock = Callable[[int, str], Awaitable[object]]
"""Opens the store of the person with this place in the list, by the PIN."""

Ringing = Callable[[int], contextlib.AbstractAsyncContextManager[Ringer]]
"""Connects the locked device of the person with this place in the list."""


class RingAlert(ModalScreen[bool | None]):
    """A page at a locked device; the keys count once nobody has typed for a moment.

    It is dismissed with whether the page is accepted, or None where it was not answered.
    """

    def __init__(self, rung: Rung, *, quiet_s: float) -> None:
        super().__init__()
        self.rung = rung
        self.armed = False
        self._quiet_s = quiet_s
        self._quiet: Timer | None = None

    def compose(self) -> ComposeResult:
        """Lay out priority, role and keys."""
        with Vertical(id="alert", classes=self.rung.priority.name.lower()):
            head = f"*** {self.rung.priority.name} ***\nfor {self.rung.role or 'you'}"
            yield Static(Content(head), id="alert-head")
            yield Static("\nUnlock to read it. You can answer at once:", id="alert-text")
            yield Static(id="alert-keys")

    def on_mount(self) -> None:
        """Ring, and wait until nobody types."""
        self._hush()
        self.app.bell()
        self.set_interval(BELL_S, self.app.bell)

    def on_key(self, event: events.Key) -> None:
        """Take a deliberate key; anything earlier only shows that somebody is typing."""
        event.stop()
        if not self.armed:
            self._hush()
        elif event.character == "a":
            self.dismiss(True)
        elif event.character == "d":
            self.dismiss(False)
        elif event.key in ("enter", "escape"):
            self.dismiss(None)

    def _hush(self) -> None:
        keys = self.query_one("#alert-keys", Static)
        keys.update("Stop typing for a moment: then the keys count.")
        if self._quiet is not None:
            self._quiet.stop()
        self._quiet = self.set_timer(self._quiet_s, self._arm)

    def _arm(self) -> None:
        self.armed = True
        self.query_one("#alert-keys", Static).update("a accept   d decline   Enter unlock")


class DoorScreen(Screen[None]):
    """Whose device, and the PIN; both take their keys while the PIN is typed."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "choose(-1)", show=False),
        Binding("down", "choose(1)", show=False),
    ]

    def __init__(self, people: Sequence[str]) -> None:
        super().__init__()
        self._people = people

    def compose(self) -> ComposeResult:
        """Lay out the people of this workstation and the PIN."""
        with Vertical(id="door"):
            yield Static("Wardline is locked", classes="sheet-title")
            if len(self._people) > 1:
                yield OptionList(*(Option(Content(name)) for name in self._people))
            else:
                yield Static(Content(self._people[0]))
            yield Input(password=True, placeholder="PIN", id="pin")
            yield Static(id="said")
            whose = "Up, Down: whose device   " if len(self._people) > 1 else ""
            yield Static(f"{whose}Enter: unlock   Ctrl-Q: quit", classes="sheet-keys")

    def action_choose(self, step: int) -> None:
        """Go to the next person of the list, or to the one before."""
        for people in self.query(OptionList):
            place = (people.highlighted or 0) + step
            people.highlighted = min(max(place, 0), len(self._people) - 1)


class Door(Discreet[object]):
    """The lock screen as a program; ``run`` returns what unlocking gave, None where nobody did."""

    CSS_PATH = "wardline.tcss"
    TITLE = "Wardline"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+q,ctrl+c", "quit", "Quit", priority=True),
        Binding("f9", "light", "Light or dark"),
        # What Enter is, where it was typed before this program had the terminal.
        Binding("ctrl+j", "enter", show=False),
    ]

    def __init__(
        self,
        people: Sequence[str],
        unlock: Unlock,
        *,
        ringing: Ringing | None = None,
        quiet_s: float = QUIET_S,
        tend: Callable[[], bool] = lambda: False,
        light: bool = False,
        keep_light: Callable[[bool], None] = lambda _: None,
    ) -> None:
        """Stand before the devices of some people.

        Args:
            people: What each is called; at least one.
            unlock: Opens one.
            ringing: Connects one while it is locked; None for no pages.
            quiet_s: How long nothing must be typed before a page takes an answer.
            tend: Called once a minute, for what the end of a shift asks of locked stores; returns
                whether one is gone, and then this screen ends.
            light: Whether it begins light.
            keep_light: Told whether it is light now, for the next time.
        """
        super().__init__()
        self.gone = self.wiped = self._suspended = False
        self._trying = False
        self._tend = tend
        self._people = people
        self._unlock = unlock
        self._ringing = ringing
        self._quiet_s = quiet_s
        self._rings: Worker[None] | None = None
        self._waiting: dict[ConversationId, Rung] = {}
        self._ringers: dict[ConversationId, Ringer] = {}
        self._silent = asyncio.Event()
        self._silent.set()
        self.register_theme(LIGHT)
        self.register_theme(DARK)
        self.theme = LIGHT.name if light else DARK.name
        self._keep_light = keep_light

    def on_mount(self) -> None:
        """Wait for a PIN, and for pages."""
        self.push_screen(DoorScreen(self._people))
        self.call_after_refresh(self._begin)
        self.set_timer(FIRST_S, self._look)
        self.set_interval(TEND_S, self._look)

    def _look(self) -> None:
        """End where somebody's store is gone: the next lock screen is without them."""
        typing = isinstance(self.screen, DoorScreen) and self.screen.query_one("#pin", Input).value
        if self._trying or typing or not isinstance(self.screen, DoorScreen):
            return  # Nobody is interrupted, and no store goes that is being opened.
        if self._tend():
            self.gone = True
            self.exit(None)

    def leave(self) -> None:
        """End: the device before which this stands was wiped."""
        self.wiped = True
        self.exit(None)

    def _begin(self) -> None:
        self.screen.query_one("#pin", Input).focus()
        if not self._trying:
            # Somebody may have typed a PIN already.
            self._rings = self._ring()

    @property
    def _chosen(self) -> int:
        lists = self.screen_stack[-1].query(OptionList)
        return (lists.first().highlighted or 0) if lists else 0

    def on_option_list_option_selected(self) -> None:
        """Go to the PIN of whoever was chosen."""
        self.screen.query_one("#pin", Input).focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Try the PIN."""
        if event.value:
            self._try(event.value)
            event.input.value = ""

    async def action_enter(self) -> None:
        """Take the PIN that stands there."""
        if isinstance(self.screen, DoorScreen):
            await self.screen.query_one("#pin", Input).action_submit()

    def action_light(self) -> None:
        """Go from light to dark, or back."""
        self.theme = DARK.name if self.theme == LIGHT.name else LIGHT.name
        self._keep_light(self.theme == LIGHT.name)

    @work(exclusive=True, group="unlock")
    async def _try(self, pin: str) -> None:
        said = self.screen.query_one("#said", Static)
        said.update("Opening ...")
        self._trying = True
        if self._rings is not None:
            self._rings.cancel()
            await self._silence()
        try:
            opened = await self._unlock(self._chosen, pin)
        except Exception as error:
            failure = explained(error)
            if failure is None:
                raise
            said.update(Content(str(failure)))
            self._trying = False
            self._rings = self._ring()
            return
        self.exit(opened)

    async def _silence(self) -> None:
        """Return once the connection that rings has ended.

        The relay serves one connection a device, the later one: a ring that was just connecting
        would end the connection that asks for the share.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SILENCE_S):
                await self._silent.wait()

    @work(group="ring")
    async def _ring(self) -> None:
        """Let pages ring, and go on trying where there is no connection."""
        self._silent.clear()
        try:
            while self._ringing is not None:
                pause_s = await self._ring_once(self._ringing)
                await asyncio.sleep(pause_s)
        finally:
            self._silent.set()

    async def _ring_once(self, ringing: Ringing) -> float:
        """Let pages ring while there is a connection; return in how many seconds to try again."""
        try:
            async with ringing(self._chosen) as ringer, self._restoring(ringer):
                async for rung in ringer.rings():
                    await self._show(ringer, rung)
        except Exception as error:
            failure = explained(error)
            if failure is None:
                raise
            if isinstance(error, SuspendedError):
                self._say(str(failure))
                self._suspended = True
                return SUSPENDED_S
        return AGAIN_S

    def _say(self, text: str) -> None:
        self.screen_stack[1].query_one("#said", Static).update(Content(text))

    @contextlib.asynccontextmanager
    async def _restoring(self, ringer: Ringer) -> AsyncIterator[None]:
        """Say meanwhile that a suspension is over, once the relay hears the device again."""

        async def restored() -> None:
            await ringer.reached()
            if self._suspended:
                self._say(RESTORED)
            self._suspended = False

        waiting = asyncio.ensure_future(restored())
        try:
            yield
        finally:
            waiting.cancel()

    async def _show(self, ringer: Ringer, rung: Rung) -> None:
        """Show the most urgent page of those that ring; the others come after it."""
        top = self.screen.rung if isinstance(self.screen, RingAlert) else None
        is_shown = top is not None and top.conversation == rung.conversation
        if rung.ended:
            self._waiting.pop(rung.conversation, None)
        else:
            self._ringers[rung.conversation] = ringer
            if not is_shown:
                self._waiting[rung.conversation] = rung
        if top is None:
            self._show_next()
        elif (rung.ended and is_shown) or (not rung.ended and rung.priority > top.priority):
            if not is_shown:
                self._waiting[top.conversation] = top
            self.screen.dismiss(None)

    def _show_next(self) -> None:
        if not self._waiting or isinstance(self.screen, RingAlert):
            return
        rung = max(self._waiting.values(), key=lambda one: one.priority)
        del self._waiting[rung.conversation]

        def answered(accepted: bool | None) -> None:
            if accepted is not None:
                self.run_worker(self._answer(rung.conversation, accepted=accepted))
            self._show_next()

        self.push_screen(RingAlert(rung, quiet_s=self._quiet_s), answered)

    async def _answer(self, conversation: ConversationId, *, accepted: bool) -> None:
        """Answer a page; say so once the relay has it, and otherwise that it has it not."""
        # Whoever let it ring has loaded the words by now.
        from client.words import PageEvent

        word = "accepted" if accepted else "declined"
        event = PageEvent.ACCEPT if accepted else PageEvent.DECLINE
        try:
            await self._ringers[conversation].answer(conversation, event)
        except Exception as error:
            failure = explained(error)
            if failure is None:
                raise
            said = f"NOT {word.upper()}: {failure}"
            self.notify(said, severity="error", timeout=NOT_GIVEN_S)
        else:
            self.notify(f"{word.capitalize()}.")
