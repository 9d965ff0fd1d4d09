"""Emergency access on the desk: asking, vouching with all that one signs for in sight, ending."""

from __future__ import annotations

from textual import work

from client import recipients
from client.emergency import Visit
from client.views import PersonView, Shown
from client.words import (
    ConversationId,
    ConversationType,
    EmergencyRequest,
    EmergencyVouch,
    UserName,
    user_of,
)
from client_cli import deeds
from client_cli.rows import MINUTE_MS, course_words
from client_cli.screens.forms import Form
from client_cli.screens.panes import Panes
from client_cli.screens.people import People
from client_cli.screens.sheets import Check, Menu

ASK_FIELDS = (
    ("about", "Which conversation or patient"),
    ("reason", "Why you must read it now"),
)
VOUCH_FIELDS = (
    ("reason", "Why (all in the conversation read this)"),
    ("minutes", "For how many minutes (5 to 720)"),
)


class EmergencyDesk(Panes):
    """The desk's part for emergency access, and choosing people, which it needs."""

    async def _choose(self, title: str, *, without: list[UserName]) -> list[UserName] | None:
        """Return people who were chosen, once those with similar names are agreed to."""
        screen = People(title, directory=self.seat.directory, without=without)
        users = await self.app.push_screen_wait(screen)
        if users is None:
            return None
        return await self._checked(users)

    async def _checked(self, users: list[UserName]) -> list[UserName] | None:
        """Return people, once those with similar names are agreed to."""
        everybody = self.seat.directory()
        chosen = [person for person in everybody if person.user in users]
        cautions = recipients.similar(chosen, everybody)
        if cautions and not await self.agreed(cautions):
            return None
        return users

    async def _choose_member(self, title: str) -> list[UserName]:
        members = set(self.others())

        def inside(text: str) -> list[PersonView]:
            return [one for one in self.seat.directory(text) if one.user in members]

        users = await self.app.push_screen_wait(People(title, directory=inside))
        return users or []

    @work
    async def action_ask_access(self) -> None:
        """Ask colleagues to let this person into a conversation that they are in."""
        users = await self._choose(
            "Who is in it and could vouch? Two must.", without=[self.seat.user]
        )
        if not users:
            return
        values = await self.app.push_screen_wait(Form("Ask for emergency access", ASK_FIELDS))
        if values is None:
            return
        asking = self.seat.emergency.ask(users, about=values["about"], reason=values["reason"])
        if await self.tried(asking):
            self.notify("They are asked. Call them as well: two of them must vouch.", timeout=8)

    async def _emergency(self, conversation: ConversationId) -> None:
        """Offer to vouch for somebody here, or to end somebody's access."""
        reading = self.reading()
        visits = self.seat.emergency.visits(conversation)
        choices = [("vouch", "v", "Vouch for a colleague who is not in this conversation")]
        choices += [
            (
                one.user,
                "",
                f"End {reading.name(one.user)}'s access, until {reading.when(one.until_ms)}",
            )
            for one in visits
        ]
        chosen = await self.app.push_screen_wait(Menu("Emergency access", choices))
        if chosen == "vouch":
            users = await self._choose("Who is to be let in?", without=self.members())
            for user in users or []:
                await self._vouch_first(conversation, user, reason="")
        elif chosen is not None:
            await self._end(conversation, next(one for one in visits if one.user == chosen))

    async def _vouch_for(self, shown: Shown) -> None:
        """Vouch as a message asks: as the second one here, or as the first one elsewhere."""
        if isinstance(shown.content, EmergencyVouch):
            await self._vouch_second(shown, shown.content)
        elif isinstance(shown.content, EmergencyRequest):
            where = await self._choose_conversation(shown.content.about)
            if where is not None:
                user = user_of(shown.sender)
                await self._vouch_first(where, user, reason=shown.content.reason)

    async def _choose_conversation(self, about: str) -> ConversationId | None:
        choices = [
            (one.conversation.hex(), "", f"{one.title}  {one.patient or ''}".strip())
            for one in self.seat.conversations()
            if one.kind is not ConversationType.DIRECT and not one.ended
        ]
        title = f"Into which conversation? Asked for: {about}"
        chosen = await self.app.push_screen_wait(Menu(title, choices))
        return None if chosen is None else ConversationId(bytes.fromhex(chosen))

    async def _vouch_first(
        self, conversation: ConversationId, user: UserName, *, reason: str
    ) -> None:
        name = self.reading().name(user)
        values = {"reason": reason, "minutes": str(deeds.STAY_MINUTES)}
        title = f"You vouch for {name} in {self.seat.summary(conversation).title}"
        filled: dict[str, str] | None = values
        while filled is not None:
            filled = await self.app.push_screen_wait(Form(title, VOUCH_FIELDS, values=filled))
            if filled is None:
                return
            minutes = int(filled["minutes"]) if filled["minutes"].isdecimal() else 0
            vouching = self.seat.emergency.vouch(
                conversation, user, reason=filled["reason"], stay_ms=minutes * MINUTE_MS
            )
            if await self.tried(vouching):
                self.notify("A second colleague here must vouch within the hour.", timeout=8)
                return

    async def _vouch_second(self, shown: Shown, content: EmergencyVouch) -> None:
        reading = self.reading()
        name, first = reading.name(content.user), reading.name(user_of(shown.sender))
        course = "" if shown.course is None else course_words(shown.course, reading)
        lines = [
            f"{name} ({content.user}) reads this conversation from now on, {course.split(';')[0]}.",
            f"{first} says: {content.reason}",
            "You sign for it. Everybody here sees your name, and the archive keeps it.",
        ]
        check = Check(f"Vouch for {name} as the second colleague?", lines, go_on="I vouch")
        if await self.app.push_screen_wait(check):
            vouching = self.seat.emergency.vouch(shown.key.conversation, content.user)
            if await self.tried(vouching):
                self.notify(f"{name} is let in now.")

    async def _end(self, conversation: ConversationId, visit: Visit) -> None:
        name = self.reading().name(visit.user)
        lines = ["They read nothing that is said from then on."]
        check = Check(f"End {name}'s emergency access now?", lines, go_on="end it")
        if await self.app.push_screen_wait(check):
            await self.tried(self.seat.emergency.end(conversation, visit.user))
