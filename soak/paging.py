"""STAT pages: somebody pages a role, and whoever is rung takes it, or does not."""

from __future__ import annotations

import asyncio
import contextlib
import random
from dataclasses import dataclass

from demo.programs import DemoError
from soak.mix import Mix
from soak.ward import CLINICIANS, Ward

PAUSE_S = (20.0, 90.0)
"""Seconds between two pages, from and to."""

LOOK_S = 0.5
ANSWERED = 0.5
"""How often a page that rings is taken before its step is over."""

OVER = ("done", "expired", "unanswered")


@dataclass(frozen=True, slots=True)
class Page:
    """A page that its sender's device has taken.

    Attributes:
        sender: Who pages.
        conversation: Its conversation.
    """

    sender: str
    conversation: str


class Paging:
    """Everybody's pages.

    Attributes:
        open: Those of which it is not known yet that they were done.
        made: How many there were.
        diligent: Whether everybody who is rung answers at once.
    """

    def __init__(self, ward: Ward, mix: Mix, *, seed: int) -> None:
        self.open: list[Page] = []
        self.made = 0
        self.diligent = False
        self._ward = ward
        self._mix = mix
        self._dice = random.Random(f"pages {seed}")  # noqa: S311 - repeatable, nothing secret
        self._passed_over: set[tuple[str, str]] = set()

    async def go_on(self) -> None:
        """Page until cancelled."""
        while True:
            await asyncio.sleep(self._dice.uniform(*PAUSE_S))
            with contextlib.suppress(DemoError):
                await self._page()

    async def _page(self) -> None:
        sender = self._ward.handsets[self._dice.choice(CLINICIANS)]
        if not sender.runs:
            return
        text = f"Bed {self._dice.randint(1, 30)}, no pulse. {self._mix.canary}-page."
        answer = await sender.try_to("page", role="registrar", text=text, priority="stat")
        if answer.get("ok"):
            self.made += 1
            self.open.append(Page(sender.user, str(answer["conversation"])))

    async def answer(self) -> None:
        """Let people answer what rings, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            for user in CLINICIANS:
                with contextlib.suppress(DemoError):
                    await self._look(user)

    async def _look(self, user: str) -> None:
        handset = self._ward.handsets[user]
        if not handset.runs:
            return
        for conversation, page in list(handset.pages.items()):
            if page["status"] in OVER:
                continue
            if page["mine"] == "accepted":
                await handset.try_to("answer", page=conversation, **{"with": "done"})
            elif page["alerting"] and self._takes(user, conversation):
                await handset.try_to("answer", page=conversation, **{"with": "accept"})

    def _takes(self, user: str, conversation: str) -> bool:
        if self.diligent:
            return True
        if (user, conversation) in self._passed_over:
            return False
        if self._dice.random() < ANSWERED:
            return True
        self._passed_over.add((user, conversation))
        return False

    async def settle(self) -> list[str]:
        """Return the pages that are not over yet, after a look at everybody's devices."""
        for handset in self._ward.handsets.values():
            for page in (await handset.ask("pages"))["pages"]:
                handset.pages[page["conversation"]] = page
        still = []
        for page in self.open:
            view = self._ward.handsets[page.sender].pages.get(page.conversation, {})
            if view.get("status") not in OVER:
                still.append(page)
        self.open = still
        return [f"page of {page.sender}" for page in still]
