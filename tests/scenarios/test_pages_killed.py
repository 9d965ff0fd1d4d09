"""A page whose relay is killed at every step, the archive being down: not lost, not repeated."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from crypto.statement import Purpose, StatementType
from protocol import frames
from protocol.authenticated_data import AuthenticatedData, Priority, Target, TargetKind
from protocol.errors import Code
from protocol.frames import Append, Deliver, EntryKind, Frame
from protocol.identifiers import ConversationId, UserName, conversation_log
from protocol.oncall.next_steps import Alert
from protocol.oncall.page_event import PageAnswer, PageEvent
from protocol.oncall.page_state import Event, Status
from tests.depth import DEPTH
from tests.protocol.oncall.ward import always, policy
from tests.scenarios.process import Installation, installed
from tests.server import harness
from tests.server.harness import Client
from tests.server.paging import Floor

TEAM = ("intern", "registrar", "consultant", "supervisor")
PAGES = DEPTH
MOMENTS = 6
"""Things that are said of a page: it is sent, declined three times, accepted, done."""
MOMENT_S = 0.02
"""Most seconds from what is sent to the kill: it is taken in, written and answered within it."""


async def prepared(at: Installation, of: harness.Hospital) -> list[ConversationId]:
    """Put people on call and begin pages' conversations, while the archive is there."""
    async with harness.running(at.data, of) as site:
        ward = Floor(site)
        site.frozen = False
        await ward.open("nurse", *TEAM)
        for name in TEAM:
            steps = policy(*TEAM[:3]) if name == "intern" else None
            await ward.role(name, always(UserName(name)), policy=steps)
        return [await ward.conversation("nurse", *TEAM) for _ in range(PAGES)]


class Killed:
    """A relay that is killed a moment after what is sent to it, and started again."""

    def __init__(self, at: Installation, kills: Iterable[bool]) -> None:
        self.at = at
        self._kills = iter(kills)

    async def do(
        self,
        user: str,
        send: Callable[[Client], Awaitable[None]],
        is_answer: Callable[[Frame], bool],
    ) -> Frame:
        """Send something, kill the relay, and send it again until it is answered."""
        client = await self._opened(user)
        await send(client)
        if next(self._kills):
            await asyncio.sleep(random.random() * MOMENT_S)
            self.at.kill()
            await client.socket.close()
            await self.at.start()
            client = await self._opened(user)
            await send(client)
        answer = await client.expect(Frame, is_answer)
        await client.socket.close()
        return answer

    async def _opened(self, user: str) -> Client:
        return await self.at.opened(self.at.hospital.people[f"{user}/phone"])

    async def page(self, conversation: ConversationId) -> None:
        person = self.at.hospital.people["nurse/phone"]
        data = AuthenticatedData(
            message_id=person.next_id(),
            priority=Priority.STAT,
            acknowledgement_asked=True,
            target=Target(kind=TargetKind.ROLE, name="intern"),
        )
        message = harness.private_message(conversation, data, epoch=1)
        verdict = await self.do(
            "nurse", lambda client: client.send(Append(message=message)), harness.is_verdict
        )
        assert isinstance(verdict, frames.Accepted)

    async def answer(self, user: str, conversation: ConversationId, event: Event) -> None:
        person = self.at.hospital.people[f"{user}/phone"]
        body = PageAnswer(conversation=conversation, event=event).encode()
        log = conversation_log(conversation)

        async def send(client: Client) -> None:
            statement = self.at.hospital.signed(
                StatementType.PAGE_ANSWER, body, by=person.signatory(Purpose.CONNECTION)
            )
            await client.send(frames.Post(ref=7, log=log, statement=statement))

        done = await self.do(user, send, lambda frame: getattr(frame, "ref", None) == 7)
        # What ended the page was taken in, and its answer lost: then it has ended.
        if event is Event.FINISH and isinstance(done, frames.Refused):
            assert done.code == Code.PAGE_ENDED
        else:
            assert isinstance(done, frames.Done), done

    async def events(
        self, conversation: ConversationId, until: Callable[[PageEvent], bool]
    ) -> list[PageEvent]:
        """Return all that the page's log says, from its beginning."""
        client = await self._opened("nurse")
        found: list[PageEvent] = []
        while not found or not until(found[-1]):
            entry = await client.expect(
                Deliver, lambda e: e.kind == EntryKind.PAGE and e.log[1:] == conversation
            )
            found.append(PageEvent.decode(entry.body))
        await client.socket.close()
        return found


def asked(events: list[PageEvent]) -> list[str]:
    """Return who was newly asked, in the order of being asked."""
    alerts = [a for event in events for a in event.actions if isinstance(a, Alert) and not a.again]
    return [user for alert in alerts for user in alert.users]


def kills() -> list[bool]:
    """Return after which of a page's moments the relay is killed: all in deep runs, else two."""
    chosen = [DEPTH > 1] * MOMENTS
    for moment in random.sample(range(MOMENTS), 2):
        chosen[moment] = True
    return chosen


async def test_a_page_goes_on_whenever_its_relay_is_killed_and_asks_nobody_twice(
    tmp_path: Path,
) -> None:
    of = harness.hospital()
    async with installed(tmp_path / "relay", of) as at:
        pages = await prepared(at, of)
        await at.start()
        for page in pages:
            killed = Killed(at, kills())
            await killed.page(page)
            for number, user in enumerate(map(UserName, TEAM[:3]), start=1):
                # The next is asked at once, and what was asked before is not asked again.
                told = await killed.events(page, lambda e: e.state.page.recipient(user) is not None)  # noqa: B023 - used at once
                assert asked(told) == list(TEAM[:number])
                await killed.answer(user, page, Event.DECLINE)
            told = await killed.events(page, lambda e: "supervisor" in e.state.page.alerting)
            assert asked(told) == list(TEAM)
            await killed.answer("supervisor", page, Event.ACCEPT)
            told = await killed.events(page, lambda e: e.state.page.status is Status.ACCEPTED)
            await killed.answer("supervisor", page, Event.FINISH)
            told = await killed.events(page, lambda e: e.state.page.status is Status.DONE)
            assert asked(told) == list(TEAM)
