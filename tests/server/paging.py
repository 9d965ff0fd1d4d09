"""A ward on a running relay: roles by signed command, real devices, and a clock that is the test's.

Whoever is alerted without the story's saying so fails it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from crypto.names import Role as CertificateRole
from crypto.statement import Purpose, StatementType
from protocol import frames
from protocol.authenticated_data import AuthenticatedData, Priority, Target, TargetKind
from protocol.commands import Command
from protocol.frames import Attention, EntryKind, RingReason
from protocol.group_context import ConversationType
from protocol.identifiers import (
    CONTROL_LOG,
    ConversationId,
    RoleName,
    UserName,
    conversation_log,
)
from protocol.oncall.commands import RoleCommand, SetEscalationPolicy, SetRole, SetSchedule
from protocol.oncall.escalation import Policy
from protocol.oncall.page import Page
from protocol.oncall.page_event import PageAnswer, PageEvent
from protocol.oncall.page_state import Event
from protocol.oncall.role import Responder
from protocol.oncall.schedule import Schedule
from tests.server import harness
from tests.server.harness import Client, Site
from tests.waiting import comes_true

MINUTE = 60_000
SECOND = 1_000


def signed(
    client: Client, kind: StatementType, body: bytes, *, purpose: Purpose, at_ms: int
) -> bytes:
    return client.hospital.signed(kind, body, by=client.person.signatory(purpose), issued_ms=at_ms)


class Floor:
    """Devices on a relay, and what has sounded on them."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.relay = site.relay
        site.frozen = True
        self.clients: dict[str, Client] = {}
        self.events: dict[bytes, list[PageEvent]] = {}
        self.reasons: list[tuple[str, RingReason]] = []
        self.silenced: list[str] = []
        # The relay has been up for long: who is not connected is not there.
        self.relay.reach.started_s = float("-inf")

    def now_ms(self) -> int:
        return self.relay.now_ms()

    @property
    def organisation(self) -> Any:
        return self.relay.organisations[self.site.hospital.id]

    # People.

    async def open(self, *users: str, role: CertificateRole = CertificateRole.CLINICIAN) -> None:
        for user in users:
            name = f"{user}/phone"
            person = self.site.hospital.people.get(name) or self.site.hospital.enrol(name, role)
            self.clients[user] = await self.site.open(person)
        await self.settle()

    async def lock(self, *users: str) -> None:
        """Connect these devices, known already, with their connection keys alone."""
        for user in users:
            client = await self.site.client(self.site.hospital.people[f"{user}/phone"])
            await client.greet()
            assert isinstance(await client.prove(unlocked=False), frames.Locked)
            self.clients[user] = client

    async def leave(self, *users: str) -> None:
        for user in users:
            await self.clients.pop(user).socket.close()
        for user in users:
            # The relay notices on its own side of the socket, some turns of the loop later.
            await comes_true(partial(self._is_gone, UserName(user)))
            self.relay.reach._user_left_s.clear()

    def _is_gone(self, user: UserName) -> bool:
        return not self.relay.delivery.of_user(self.site.hospital.id, user)

    # The administrator.

    async def command(self, body: Command) -> frames.Frame:
        if "chief" not in self.clients:
            await self.open("chief", role=CertificateRole.ADMINISTRATOR)
            self.site.connection(self.clients["chief"]).strong_until_s = float("inf")
        chief = self.clients["chief"]
        statement = signed(
            chief,
            StatementType.COMMAND,
            body.encode(),
            purpose=Purpose.ADMINISTRATOR,
            at_ms=self.now_ms(),
        )
        return await chief.answer(lambda ref: frames.Command(ref=ref, statement=statement))

    async def role(
        self,
        name: str,
        schedule: Schedule,
        *,
        policy: Policy | None = None,
        fallback: Iterable[str] = ("matron",),
        effective_ms: int | None = None,
        **options: Any,
    ) -> None:
        role = RoleName(name)
        version = self.organisation.duty.configuration.version(role)
        people = tuple(map(UserName, fallback))
        made: list[RoleCommand] = [
            SetRole(
                role=role,
                version=version + 1,
                fallback=people,
                owner=UserName("chief"),
                **options,
            ),
            SetSchedule(
                role=role,
                version=version + 2,
                effective_ms=effective_ms or self.now_ms() - 3600_000,
                schedule=schedule,
            ),
        ]
        if policy is not None:
            made.append(SetEscalationPolicy(role=role, version=version + 3, policy=policy))
        for body in made:
            done = await self.command(body)
            assert isinstance(done, frames.Done), done

    # Pages.

    async def conversation(self, *users: str) -> ConversationId:
        """Make a page's conversation of connected devices, the first one's."""
        clients = [self.clients[user] for user in users]
        if "recorder" not in self.clients:
            recorder = self.site.hospital.people[harness.RECORDER]
            self.clients["recorder"] = await self.site.open(recorder)
        clients.append(self.clients["recorder"])
        conversation = ConversationId(secrets.token_bytes(32))
        joined = [client.person.name for client in clients[1:]]
        sequence = await harness.commit(
            clients[0],
            conversation,
            epoch=0,
            added=joined,
            conversation_type=ConversationType.PAGE,
        )
        await harness.confirm(clients[-1], conversation, sequence=sequence, epoch=1)
        return conversation

    async def page(
        self,
        sender: str,
        conversation: ConversationId,
        role: str,
        *,
        priority: Priority = Priority.STAT,
        epoch: int = 1,
        turn: TargetKind = TargetKind.ROLE,
    ) -> frames.Frame:
        client = self.clients[sender]
        data = AuthenticatedData(
            message_id=client.person.next_id(),
            priority=priority,
            acknowledgement_asked=True,
            target=Target(kind=turn, name=role),
        )
        message = harness.private_message(conversation, data, epoch=epoch)
        await client.send(frames.Append(message=message))
        verdict = await client.expect(frames.Frame, harness.is_verdict)
        await self.settle()
        return verdict

    async def say(
        self,
        user: str,
        conversation: ConversationId,
        event: Event,
        *,
        to: Responder | None = None,
        arrival_ms: int | None = None,
    ) -> frames.Frame:
        answer = PageAnswer(conversation=conversation, event=event, to=to, arrival_ms=arrival_ms)
        client = self.clients[user]
        statement = signed(
            client,
            StatementType.PAGE_ANSWER,
            answer.encode(),
            purpose=Purpose.CONNECTION,
            at_ms=self.now_ms(),
        )
        log = conversation_log(conversation)
        done = await client.answer(lambda ref: frames.Post(ref=ref, log=log, statement=statement))
        await self.settle()
        return done

    async def request(self, user: str, body: bytes) -> frames.Frame:
        client = self.clients[user]
        statement = signed(
            client,
            StatementType.DEVICE_REQUEST,
            body,
            purpose=Purpose.DEVICE,
            at_ms=self.now_ms(),
        )
        return await client.answer(
            lambda ref: frames.Post(ref=ref, log=CONTROL_LOG, statement=statement)
        )

    def state(self, conversation: ConversationId) -> Page:
        """Return where the page stands by the newest entry that a member has read."""
        return self.events[conversation][-1].state.page

    # The clock.

    async def settle(self) -> None:
        """Wait until the relay has done what is under way."""
        while self.relay._tasks:
            await asyncio.wait(set(self.relay._tasks), timeout=1)

    async def wait(self, ms: int) -> None:
        """Move the clock on, and let each timer fire when it is due."""
        until = self.now_ms() + ms
        while (due := self._next_due()) is not None and due <= until:
            self.site.later_ms += max(0, due - self.now_ms())
            self.relay.pages.look()
            await self.settle()
        self.site.later_ms += until - self.now_ms()

    def _next_due(self) -> int | None:
        return min((live.due_ms for live in self.relay.pages._live.values()), default=None)

    # What sounded.

    async def expect(self, *users: str) -> None:
        """Require that exactly these people have been alerted by pages since the last time."""
        rung = await self.drain()
        assert sorted(rung) == sorted(users), rung

    async def drain(self) -> list[str]:
        """Return who has been alerted by pages since the last time, once for each alert."""
        rung: list[str] = []
        for user, client in self.clients.items():
            await self._barrier(client)
            kept = []
            for frame in client.early:
                if isinstance(frame, frames.RingEnded):
                    self.silenced.append(user)
                elif isinstance(frame, frames.Ring):
                    self.reasons.append((user, RingReason(frame.reason)))
                    rung.append(user)
                elif isinstance(frame, frames.Deliver) and frame.kind == EntryKind.PAGE:
                    event = PageEvent.decode(frame.body)
                    known = self.events.setdefault(frame.log[1:], [])
                    if event not in known:
                        known.append(event)
                    if frame.attention == Attention.ALERT:
                        rung.append(user)
                else:
                    kept.append(frame)
            client.early[:] = kept
        return rung

    def due_in_ms(self, conversation: ConversationId) -> int:
        """Return how long it is until something is due on a page."""
        lives = self.relay.pages._live
        return lives[self.site.key(conversation_log(conversation))].due_ms - self.now_ms()

    async def _barrier(self, client: Client) -> None:
        """Let everything that is on its way to a device arrive."""
        if client.session.state.value == "open":
            await client.answer(lambda ref: frames.GetReach(ref=ref, users=()))
            return
        await client.answer(lambda ref: frames.TestAlert(ref=ref))
        tests = [
            f for f in client.early if isinstance(f, frames.Ring) and f.reason == RingReason.TEST
        ]
        client.early[:] = [frame for frame in client.early if frame not in tests]


@asynccontextmanager
async def floor(folder: Path, of: harness.Hospital | None = None) -> AsyncIterator[Floor]:
    async with harness.running(folder, of or harness.hospital()) as site:
        yield Floor(site)
