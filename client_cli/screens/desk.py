"""What the desk's keys do beyond writing: answers to messages, people, pages, files, sheets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from textual import on, work
from textual.message import Message
from textual.widgets import OptionList

from client import targets
from client.duty import PageView
from client.errors import NotMemberError
from client.messages import MessageKey
from client.views import Shown
from client.words import (
    Attachment,
    CheckIn,
    CheckInAnswer,
    Content,
    ConversationId,
    ConversationType,
    CriticalResult,
    Priority,
    Reaction,
    ReadBack,
    RoleName,
    TargetKind,
    UserName,
)
from client_cli import actions, deeds, troubles
from client_cli.actions import KEYS, Act
from client_cli.forms import FORMS, FormKind
from client_cli.rows import (
    Reading,
    device_line,
    member_line,
    message_row,
)
from client_cli.screens.board import Board, Pages
from client_cli.screens.emergency import EmergencyDesk
from client_cli.screens.finding import Found, Search
from client_cli.screens.forms import Form
from client_cli.screens.sheets import Ask, Check, Menu, Sheet, Transfer
from client_cli.seat import Seat

GROUP_FIELDS = (
    ("title", "Title"),
    ("patient", "Patient, where it is about one"),
    ("kind", "Empty: a group. a: announcement, only you write. i: incident. r: role board"),
)
GROUP_KINDS = {
    "a": ConversationType.ANNOUNCEMENT,
    "i": ConversationType.INCIDENT,
    "r": ConversationType.ROLE_BOARD,
}


class Desk(EmergencyDesk):
    """The desk with its acts; each is one worker that asks, does, and says what went wrong."""

    class ShowPage(Message):
        """A page is to be laid over everything else.

        Attributes:
            page: Which.
        """

        def __init__(self, page: PageView) -> None:
            super().__init__()
            self.page = page

    def __init__(self, seat: Seat, reading: Callable[[], Reading]) -> None:
        super().__init__(seat, reading)
        self._hits: list[MessageKey] = []

    # -- with a message ------------------------------------------------------------------------

    @on(OptionList.OptionSelected, "#messages")
    def offer(self) -> None:
        """Offer what can be done with the marked message."""
        self._offer()

    @work
    async def _offer(self) -> None:
        shown = self.marked()
        if shown is None:
            return
        acts = actions.possible(shown, self.seat.user)
        if not acts:
            return
        choices = [(act.name, KEYS[act], act.value) for act in acts]
        chosen = await self.app.push_screen_wait(Menu("With this message", choices))
        if chosen is not None:
            await self._do(Act[chosen], shown)

    @work
    async def action_act(self, key: str) -> None:
        """Do what a key stands for with the marked message."""
        shown = self.marked()
        if shown is None:
            return
        for act in actions.possible(shown, self.seat.user):
            if KEYS[act] == key:
                await self._do(act, shown)
                return
        self.notify("That cannot be done with this message.", timeout=3)

    async def _do(self, act: Act, shown: Shown) -> None:
        content = actions.answer(act, shown)
        if content is not None:
            await self.tried(self.seat.send(shown.key.conversation, content))
        elif act is Act.REPLY:
            self.reply_to(shown)
        elif act is Act.EDIT:
            self.change(shown)
        elif act is Act.ACKNOWLEDGE:
            await self.tried(self.seat.acknowledge(shown.key))
        elif act is Act.TAKE_BACK:
            await self._take_back(shown)
        elif act is Act.SAVE:
            await self._save(shown)
        elif act in (Act.VOUCH, Act.CHOOSE_FOR):
            await self._vouch_for(shown)
        elif act is Act.DETAILS:
            await self.app.push_screen_wait(Sheet("Details", self._details(shown)))
        else:
            await self._type(act, shown)
        self.show_thread(follow=False)

    async def _type(self, act: Act, shown: Shown) -> None:
        """Do what needs a line to be typed."""
        target = actions.reference(shown)
        content: Content | None = None
        if act is Act.REACT:
            mark = await self.app.push_screen_wait(Ask("One sign", value="+1"))
            content = Reaction(target=target, mark=mark) if mark else None
        elif act is Act.READ_BACK and isinstance(shown.content, CriticalResult):
            title = f"Type the value of {shown.content.test} again, with its unit"
            value = await self.app.push_screen_wait(Ask(title))
            content = ReadBack(target=target, value=value) if value else None
        elif act is Act.ANSWER and isinstance(shown.content, CheckIn):
            fields = [(str(n), question) for n, question in enumerate(shown.content.questions)]
            given = await self.app.push_screen_wait(Form(shown.content.title, fields))
            if given is not None:
                content = CheckInAnswer(target=target, answers=tuple(given.values()))
        if content is not None:
            await self.tried(self.seat.send(shown.key.conversation, content))

    async def _take_back(self, shown: Shown) -> None:
        lines = ["Nobody has read it. Devices forget it; the archive keeps it."]
        check = Check("Take this message back?", lines, go_on="take it back")
        if await self.app.push_screen_wait(check):
            await self.tried(self.seat.recall(shown.key))

    def _details(self, shown: Shown) -> list[str]:
        reading = self.reading()
        quoted = self.seat.message(shown.reply_to) if shown.reply_to else None
        row = message_row(shown, reading, quoted=quoted, audience=len(self.others()))
        lines = [*row.lines(), ""]
        lines += [
            f"{reading.name(user)}: {state.name.lower()} {reading.when(at_ms)}"
            for user, (state, at_ms) in sorted(shown.people.items())
        ]
        silent = [user for user in self.others() if user not in shown.people]
        if shown.own and silent:
            lines.append(f"Not yet delivered: {reading.all(silent)}")
        for former in self.seat.history(shown.key):
            end = "" if former.until_ms is None else f", until {reading.when(former.until_ms)}"
            lines += ["", f"Before, {reading.when(former.at_ms)}{end}:", f"  {former.text}"]
        return lines

    # -- files ---------------------------------------------------------------------------------

    async def _save(self, shown: Shown) -> None:
        name = shown.content.name if isinstance(shown.content, Attachment) else "file"
        lines = ["Whatever is saved lies outside Wardline, unencrypted, and is not wiped with it."]
        path = await self.app.push_screen_wait(Ask("Save as", lines=lines, value=f"~/{name}"))
        if path is None:
            return
        bar = Transfer(f"Fetching {name}")
        await self.app.push_screen(bar)
        done = await self.tried(self.seat.fetch(shown.key, _at(path), on_progress=bar.advance))
        bar.dismiss(None)
        if done:
            self.notify(f"Saved as {path}")

    @work
    async def action_attach(self) -> None:
        """Send a file."""
        if self.open is None:
            return
        path = await self.app.push_screen_wait(Ask("Which file is to be sent", value="~/"))
        if path is None:
            return
        bar = Transfer(f"Sending {Path(path).name}")
        await self.app.push_screen(bar)
        sending = self.seat.attach(self.open, _at(path), on_progress=bar.advance)
        await self.tried(sending)
        bar.dismiss(None)
        self.show_thread(follow=True)

    # -- conversations and people --------------------------------------------------------------

    @work
    async def action_new_conversation(self) -> None:
        """Begin a conversation with people who are chosen and checked."""
        users = await self._choose("Who is to be in it?", without=[self.seat.user])
        if users is None:
            return
        kind = ConversationType.DIRECT if len(users) == 1 else ConversationType.GROUP
        known = self.direct(users[0]) if kind is ConversationType.DIRECT else None
        if known is not None:
            self.go(known)
            return
        title: str | None = ""
        patient: str | None = None
        if kind is ConversationType.GROUP:
            given = await self.app.push_screen_wait(Form("New conversation", GROUP_FIELDS))
            if given is None:
                return
            title, patient = given["title"], given["patient"] or None
            kind = GROUP_KINDS.get(given["kind"].lower()[:1], kind)
        started: list[ConversationId] = []

        async def start() -> None:
            started.append(await self.seat.start(kind, users, title=title or "", patient=patient))

        if await self.tried(start()):
            self.show_list()
            self.go(started[0])

    @work
    async def action_members(self) -> None:
        """Show who is in the conversation, the archive too; add or remove people."""
        if self.open is None:
            return
        reading = self.reading()
        lines = [member_line(member, reading) for member in self.seat.members(self.open)]
        hint = "+ in  - out  u mute  o moderate  e emergency  h history  x leave"
        sheet = Sheet("Members", lines, keys="+-uoehx", hint=hint)
        key = await self.app.push_screen_wait(sheet)
        if key == "+":
            users = await self._choose("Who is to be let in?", without=self.members())
            if users is not None:
                await self.tried(self.seat.change_members(self.open, add=users))
        elif key == "-":
            await self._remove()
        elif key == "u":
            await self._mute_somebody()
        elif key == "o":
            await self._moderators()
        elif key == "e":
            await self._emergency(self.open)
        elif key == "h":
            await self._hand_over(self.open)
        elif key == "x":
            lines = ["You will get nothing more from it. The archive keeps what was said."]
            check = Check("Leave this conversation?", lines, go_on="leave it")
            if await self.app.push_screen_wait(check):
                await self.tried(self.seat.leave(self.open))

    async def _hand_over(self, conversation: ConversationId) -> None:
        """Hand over the last hours to who came in later, where the policy allows it."""
        handing = self.seat.handing_over
        count = handing.count(conversation)
        if not count:
            reason = (
                "This device has nothing of the last hours."
                if handing.hours
                else ("The policy lets nobody hand over what was said.")
            )
            self.notify(reason)
            return
        lines = [
            f"{count} messages of the last {handing.hours} hours, as this device has them.",
            "Everybody in the conversation sees that you hand them over.",
        ]
        if await self.app.push_screen_wait(Check("Hand over history?", lines, go_on="hand over")):
            await self.tried(handing.hand_over(conversation))

    async def _mute_somebody(self) -> None:
        """Fold somebody's messages away for an hour, or no longer; for owners and moderators."""
        if self.open is None:
            return
        now_ms = self.reading().now_ms
        muted = {one.user for one in self.seat.members(self.open) if one.muted_until_ms > now_ms}
        for user in await self._choose_member("Mute for an hour, or no longer: whose messages?"):
            minutes = 0 if user in muted else deeds.MUTE_MINUTES
            muting = deeds.mute(self.seat, self.open, user, minutes=minutes, now_ms=now_ms)
            if await self.tried(muting):
                self.notify(
                    "Muted for an hour; URGENT and STAT are shown."
                    if minutes
                    else "No longer muted."
                )

    async def _moderators(self) -> None:
        """Say who may mute beside the owners."""
        if self.open is None:
            return
        now = [one.user for one in self.seat.members(self.open) if one.is_moderator]
        names = self.reading().all(now) or "nobody"
        users = await self._choose_member(f"Who may mute others, instead of {names}?")
        if users and await self.tried(deeds.moderate(self.seat, self.open, users)):
            self.notify(f"Moderators beside the owners: {self.reading().all(users)}")

    async def _remove(self) -> None:
        users = await self._choose_member("Who is to go?")
        if users and self.open is not None:
            await self.tried(self.seat.change_members(self.open, remove=users))

    @work
    async def action_mute(self) -> None:
        """Want no sound from this conversation, or want it again."""
        if self.open is not None:
            muted = not self.seat.summary(self.open).muted
            if await self.tried(self.seat.mute(self.open, muted=muted)):
                self.notify("Muted; STAT sounds all the same." if muted else "No longer muted.")

    @work
    async def action_form(self) -> None:
        """Send a task, a critical result, a hand-off, a check-in or where one is."""
        if self.open is None:
            return
        choices = [(name, form.key, form.title) for name, form in FORMS.items()]
        chosen = await self.app.push_screen_wait(Menu("What is to be sent", choices))
        values: dict[str, str] | None = None
        while chosen is not None:
            form = FORMS[chosen]
            values = await self.app.push_screen_wait(Form(form.title, form.fields, values=values))
            if values is None or await self.tried(self._send_form(form, values)):
                return

    async def _send_form(self, form: FormKind, values: dict[str, str]) -> None:
        if self.open is not None:
            await self.seat.send(
                self.open, form.make(values, self.reading()), priority=self.priority
            )
            self.show_thread(follow=True)

    # -- duty ----------------------------------------------------------------------------------

    @work
    async def action_board(self) -> None:
        """Show who is on call, and page whom Enter was pressed on."""
        role = await self.app.push_screen_wait(Board(self.seat.duty.board(), self.reading()))
        if role is not None:
            await self._page(role)

    @work
    async def action_page_role(self) -> None:
        """Page a role that is chosen from the board."""
        role = await self.app.push_screen_wait(Board(self.seat.duty.board(), self.reading()))
        if role is not None:
            await self._page(role)

    @work
    async def action_pages(self) -> None:
        """Show the pages."""
        chosen = await self.app.push_screen_wait(Pages(self.seat.duty.pages(), self.reading()))
        for page in self.seat.duty.pages():
            if page.conversation.hex() == chosen:
                self.post_message(self.ShowPage(page))

    async def _page(self, typed: str) -> None:
        roles = [view.role for view in self.seat.duty.board()]
        found = targets.target(typed, roles=roles, users=())
        if found is None:
            return
        who = targets.words(found, {})
        if found.kind is not TargetKind.ROLE:
            who += f" ({self.reading().all(self.seat.duty.meant(found) or ())})"
        choices = [
            (Priority.STAT.name, "s", "STAT: alarms at once and every minute"),
            (Priority.URGENT.name, "u", "URGENT: alarms at once, again after five minutes"),
            (Priority.ROUTINE.name, "r", "routine: one sound"),
        ]
        urgency = await self.app.push_screen_wait(Menu(f"Page {who}: how urgent?", choices))
        if urgency is None:
            return
        text = await self.app.push_screen_wait(Ask(f"{urgency} to {who}: what is the matter?"))
        if text is None:
            return
        paged = self.seat.duty.page(
            RoleName(found.name), text, priority=Priority[urgency], turn=found.kind
        )
        if await self.tried(paged):
            self.notify(f"{who} is being paged. Key g shows how it goes.")

    # -- sheets --------------------------------------------------------------------------------

    @work
    async def action_devices(self) -> None:
        """Show this person's devices."""
        reading = self.reading()
        lines = [device_line(one, reading) for one in self.seat.devices()]
        faults = troubles.lines(self.seat.status, self.seat, reading)
        lines += ["", "What did not come as it should:", *faults] if faults else []
        lines += ["", "Lost one? wardline suspend USER/DEVICE here, or call an administrator."]
        await self.app.push_screen_wait(Sheet("Your devices", lines))

    @work
    async def action_search(self) -> None:
        """Search messages and people, and open what was found."""
        where = self.open if self.has_class("-reading") else None
        place = "this conversation" if where is not None else "messages and people"

        def find(text: str) -> list[Found]:
            return self._find(text, where)

        chosen = await self.app.push_screen_wait(Search(find, where=place))
        if chosen is None:
            return
        if chosen.startswith("p"):
            await self._write_to(UserName(chosen[1:]))
            return
        self.find(self._hits[int(chosen[1:])])

    async def _write_to(self, user: UserName) -> None:
        """Open the conversation with somebody who was found, or begin it."""
        known = self.direct(user)
        if known is None and user != self.seat.user:
            users = await self._checked([user])
            found: list[ConversationId] = []

            async def begin() -> None:
                found.append(await self.with_person(user))

            if users and await self.tried(begin()):
                known = found[0]
        if known is not None:
            self.go(known)

    def _find(self, text: str, where: ConversationId | None) -> list[Found]:
        if not text.strip():
            return []
        reading = self.reading()
        hits = self.seat.search(text, conversation=where)
        self._hits = [hit.key for hit in hits]
        found: list[Found] = []
        if where is None:
            found = [
                (f"p{one.user}", f"{one.name} ({one.user}), {one.ward or 'no ward'}"
                 + (f", on call: {', '.join(one.on_call)}" if one.on_call else ""))
                for one in self.seat.directory(text)
            ]  # fmt: skip
        where_from = {hit.key.conversation for hit in hits}
        titles = {one: self._title_of(one) for one in where_from}
        for index, hit in enumerate(hits):
            row = message_row(hit, reading)
            title = titles[hit.key.conversation]
            first = row.body.splitlines()[0] if row.body else ""
            found.append((f"m{index}", f"{row.when}  {title}  {row.who}: {first}"))
        return found

    def _title_of(self, conversation: ConversationId) -> str:
        try:
            return self.seat.summary(conversation).title
        except NotMemberError:
            return ""


def _at(path: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError:
        # There is no such home: nor is there then such a file, which is said.
        return Path(path)
