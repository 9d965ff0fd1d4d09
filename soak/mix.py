"""What the ward says: a hospital's mix of messages, by seed."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from demo.programs import DemoError
from soak.ward import CLINICIANS, Handset, Ward

MESSAGES_A_DAY = 62_816
"""What an 880-bed hospital sends on a weekday; a dozen devices send all of it here."""

RATE = MESSAGES_A_DAY / 86_400
"""Messages a second, of all together."""

GROUPS = (
    ("Ward 4", ("anna", "ben", "clara", "david", "elif", "farid", "ines", "luis"), ()),
    ("ICU", ("elif", "farid", "grace", "henry", "kira"), ()),
    ("All of us", CLINICIANS, ()),
    ("Bed 9", ("ben", "clara", "grace"), ("henry", "ines", "jonas")),
)
"""Title, who stays, and who comes and goes; the first who stays owns it."""

PAIRS = (
    *(("anna", "clara"), ("ben", "david"), ("elif", "farid"), ("grace", "kira")),
    *(("henry", "ines"), ("jonas", "luis"), ("anna", "luis")),
)
PRIORITIES = ("info", "routine", "urgent", "stat")
WEIGHTS = (10, 82, 7, 1)
"""How often each priority is used, of a hundred."""

REPLY, REACT, EDIT, COME_OR_GO = 0.10, 0.15, 0.20, 0.24
"""Of what people do: up to here a reply, a sign, a change, a change of members; else a message."""


@dataclass(kw_only=True)
class Talk:
    """A conversation, and what was said in it since it was last looked at.

    Attributes:
        title: What people call it.
        stays: Who is in it all the time.
        floats: Who comes and goes.
        id: Its number; empty where it is direct.
        sure: Tags of what its sender's device has taken.
        unsure: Tags of what was on its way when something broke.
        texts: Every text, by tag.
        newest: Key of a recent message.
        own: Newest key of what each wrote.
    """

    title: str
    stays: tuple[str, ...]
    floats: tuple[str, ...] = ()
    id: str = ""
    sure: list[str] = field(default_factory=list)
    unsure: list[str] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    newest: str = ""
    own: dict[str, str] = field(default_factory=dict)

    @property
    def people(self) -> tuple[str, ...]:
        """Everybody who is ever in it."""
        return (*self.stays, *self.floats)


class Mix:
    """Everybody's traffic.

    Attributes:
        canary: Stands in every text and title, and nowhere outside of a device.
        talks: Every conversation.
        sent: How many messages devices have taken.
    """

    def __init__(self, ward: Ward, *, seed: int, words: Iterator[str], rate: float) -> None:
        self.ward = ward
        self.canary = f"canary-{secrets.token_hex(8)}"
        self.sent = 0
        self._dice = random.Random(f"mix {seed}")  # noqa: S311 - repeatable, nothing secret
        self._words = words
        self._rate = rate
        self._number = 0
        groups = [Talk(title=f"{name} {self.canary}", stays=a, floats=b) for name, a, b in GROUPS]
        self.talks = [*groups, *(Talk(title="", stays=pair) for pair in PAIRS)]

    async def begin(self) -> None:
        """Start every conversation."""
        for talk in self.talks:
            owner = self.ward.handsets[talk.stays[0]]
            kind = "group" if talk.title else "direct"
            others = list(talk.people[1:])
            made = await owner.ask("start", kind=kind, title=talk.title, users=others)
            talk.id = str(made["conversation"])

    async def go_on(self) -> None:
        """Talk until cancelled."""
        async with asyncio.TaskGroup() as group:
            for user in CLINICIANS:
                group.create_task(self._person(user))

    async def _person(self, user: str) -> None:
        mine = [talk for talk in self.talks if user in talk.stays]
        while True:
            await asyncio.sleep(self._dice.expovariate(self._rate / len(CLINICIANS)))
            handset = self.ward.handsets[user]
            # What it cannot do while something is broken, the next round finds out.
            if handset.runs:
                with contextlib.suppress(DemoError):
                    await self._act(handset, self._dice.choice(mine))

    async def _act(self, handset: Handset, talk: Talk) -> None:
        drawn = self._dice.random()
        if drawn < REPLY and talk.newest:
            await self.say(handset, talk, "reply", message=talk.newest)
        elif REPLY <= drawn < REACT and talk.newest:
            await handset.try_to("react", message=talk.newest, mark="+1")
        elif REACT <= drawn < EDIT and handset.user in talk.own:
            await self._edit(handset, talk)
        elif EDIT <= drawn < COME_OR_GO and talk.floats:
            await self._come_or_go(talk)
        else:
            priority = self._dice.choices(PRIORITIES, WEIGHTS)[0]
            ask = self._dice.random() < 0.1
            await self.say(handset, talk, "send", to=talk.id, priority=priority, ask=ask)

    async def say(self, handset: Handset, talk: Talk, do: str, **fields: Any) -> str:
        """Have a device say something new, and return its tag."""
        self._number += 1
        tag = f"{self.canary}-{self._number}."
        text = talk.texts[tag] = f"{next(self._words)} {tag}"
        talk.unsure.append(tag)
        answer = await handset.try_to(do, text=text, **fields)
        if answer.get("ok"):
            talk.unsure.remove(tag)
            talk.sure.append(tag)
            self.sent += 1
            talk.newest = talk.own[handset.user] = str(answer["message"]["key"])
        return tag

    async def _edit(self, handset: Handset, talk: Talk) -> None:
        key = talk.own[handset.user]
        shown = await handset.try_to("show", **{"in": talk.id}, limit=40)
        for message in shown.get("messages", ()):
            if message["key"] == key:
                await handset.try_to("edit", message=key, text=f"{message['text']} (corrected)")

    async def _come_or_go(self, talk: Talk) -> None:
        owner = self.ward.handsets[talk.stays[0]]
        who = self._dice.choice(talk.floats)
        members = (await owner.ask("members", **{"in": talk.id}))["members"]
        do = "remove" if any(one["user"] == who for one in members) else "add"
        await owner.try_to(do, **{"in": talk.id}, users=[who])
