"""An officer's device at work: letters between ``Officer`` and the officers' conversation.

Officers and the archive write to each other in a conversation of their own, whose content is never
shown as chat. Keys go to the recorder's inbox as well: until enough officers have published theirs
the archive seals nothing, and so no conversation begins, theirs included.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import chain

from client.device import Device
from client.errors import NotOutError, UnknownUserError
from client.membership import RECORDER_USER, recorder_of
from client.officer import Case, Officer, OfficerIdentity
from client.officer_book import LogPolicy
from crypto.errors import CryptoError, InvalidError
from crypto.names import Role
from crypto.note import VerifierKey
from crypto.statement import claimed_statement
from crypto.statement_types import Purpose
from protocol import frames
from protocol.content import Kind, Official, decode
from protocol.group_context import ConversationType
from protocol.identifiers import ConversationId, LogId, UserName, inbox_log, user_of
from protocol.inbox import Item, ItemKind
from protocol.letters import Signed, decode_letter, statement_of
from protocol.opening import Offer, Scope, decode_officer_keys
from protocol.opening import Purpose as OpeningPurpose
from protocol.quorum import Quorum
from protocol.retention import COMPLIANCE

TITLE = "Compliance"
"""The officers' conversation is known by its title and by being for no chat."""

LETTERS = 100_000
"""Letters read of a conversation at once: all that one opening can take, twice over."""

POLL_S = 0.5
"""Seconds between two looks for an answer of the archive."""

_QUORUM = "officer quorum"
_THROUGH = "officer letters "


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A letter that changed nothing.

    Attributes:
        sender: Who sent it, as the conversation says.
        rule: What it breaks.
    """

    sender: str
    rule: str


class NoQuorumError(Exception):
    """Nobody has told this device yet how many officers must agree."""


class NoOfficersConversationError(Exception):
    """This device is in no officers' conversation: one of them begins it."""


class OfficerDesk:
    """One officer's device."""

    def __init__(self, device: Device) -> None:
        """Take the device.

        Raises:
            NoQuorumError: ``set_quorum`` was never called.
        """
        self._device = device
        self._store = device.engine.store
        self.officer = Officer(
            self._store,
            OfficerIdentity(
                organisation=device.organisation,
                user=device.user,
                signatory=device.engine.identity.signatory(Purpose.OFFICER),
            ),
            trust=lambda: device.engine.book.trusted.trust,
            policy=self._policy,
            quorum=quorum_of(device),
        )

    def _policy(self) -> LogPolicy:
        known = self._device.engine.book.trusted.log_policy
        if known is None:
            raise InvalidError("the organisation has told its log's keys")
        witnesses = tuple(map(VerifierKey.decode, known.witness_keys))
        return LogPolicy(log=VerifierKey.decode(known.log_key), witnesses=witnesses)

    def scope(
        self,
        *,
        conversations: Iterable[ConversationId] = (),
        people: Iterable[str] = (),
        patient: str = "",
        from_ms: int = 0,
        until_ms: int | None = None,
    ) -> Scope:
        """Return a scope; without an end it ends now.

        Raises:
            InvalidError: It names nothing, or its period is none.
        """
        return Scope(
            conversations=tuple(sorted(set(conversations))),
            people=tuple(UserName(name) for name in sorted(set(people))),
            patient=patient,
            from_ms=from_ms,
            until_ms=self.now_ms if until_ms is None else until_ms,
        )

    def found_case(self, beginning: str) -> Case:
        """Return the one request whose hash begins as typed.

        Raises:
            InvalidError: There is none, or more than one.
        """
        found = [
            case
            for case in self.officer.cases(now_ms=self.now_ms)
            if case.filed.hash.hex().startswith(beginning.lower())
        ]
        if len(found) != 1:
            raise InvalidError("a request is named by the beginning of its hash, and of no other's")
        return found[0]

    async def awaited(
        self, beginning: str, is_coming: Callable[[Case], bool], *, timeout_s: float
    ) -> None:
        """Return once nothing of a request is on its way here any more, or the time is over.

        Raises:
            InvalidError: There is no such request, or more than one.
        """
        ends_s = time.monotonic() + timeout_s
        while is_coming(self.found_case(beginning)) and time.monotonic() < ends_s:
            await asyncio.sleep(POLL_S)
            await self.sync()

    @property
    def now_ms(self) -> int:
        """Now, by the device's clock."""
        return self._device.engine.clock()

    async def sync(self) -> list[Refused]:
        """Take in the letters that have come since the last time; return those refused.

        Raises:
            StoreError: The store cannot be used.
        """
        await self._know({self._device.user})
        refused: list[Refused] = []
        for one in self._device.conversations():
            refused += await self._sync(one.conversation)
        return refused

    async def _know(self, users: set[UserName]) -> None:
        """Learn the devices of those who sign, where they are not known yet."""
        trusted = self._device.engine.book.trusted
        unknown = sorted(user for user in users if not trusted.devices_of(user))
        if unknown:
            await self._device.look_up(unknown)

    async def _sync(self, conversation: ConversationId) -> list[Refused]:
        setting = _THROUGH + conversation.hex()
        through = int.from_bytes(self._store.settings.get(setting) or b"", "big")
        rows = [
            row
            for row in self._store.messages.of_kind(conversation, int(Kind.OFFICIAL), limit=LETTERS)
            if row.place > through and row.key.sender != self._device.me
        ]
        letters = {row.place: _letters(row.content.data) for row in rows}
        senders = {user_of(row.key.sender) for row in rows} - {RECORDER_USER}
        await self._know_signers(senders, chain.from_iterable(letters.values()))
        refused: list[Refused] = []
        for row in rows:
            refused += self._take(row.key.sender, letters[row.place])
            self._store.settings.put(setting, row.place.to_bytes(8, "big"))
        return refused

    async def _know_signers(self, users: set[UserName], letters: Iterable[bytes]) -> None:
        """Learn by which certificates letters are signed: they are renewed every other month."""
        if users:
            await self._device.look_up(sorted(users))
        engine = self._device.engine
        for letter in letters:
            with contextlib.suppress(CryptoError):
                statement = statement_of(letter)
                if statement is not None:
                    await engine.book.find_signers(statement, engine.ask, now_ms=self.now_ms)

    def _take(self, sender: str, letters: Iterable[bytes]) -> Iterable[Refused]:
        for letter in letters:
            try:
                self.officer.receive(letter, now_ms=self.now_ms)
            except InvalidError as error:
                yield Refused(sender=sender, rule=error.rule)
            except CryptoError as error:
                yield Refused(sender=sender, rule=type(error).__name__)

    # -- posting --------------------------------------------------------------------------------

    def conversation(self) -> ConversationId:
        """Return the officers' conversation.

        Raises:
            NoOfficersConversationError: This device is in none.
        """
        found = [
            one.conversation
            for one in self._device.conversations()
            if one.title == TITLE and one.kind is ConversationType.GROUP and not one.ended
        ]
        if not found:
            raise NoOfficersConversationError
        # Where two officers began one at the same time, all take the same of the two.
        return min(found)

    async def convene(self, officers: Collection[UserName]) -> ConversationId:
        """Begin the officers' conversation with a first letter, unless there is one; return it.

        Raises:
            UnknownUserError: One of them has no device, or is no officer.
            NotConnectedError: There is no connection.
        """
        try:
            return self.conversation()
        except NoOfficersConversationError:
            pass
        await self._device.look_up(sorted(officers))
        known = self._device.engine.book.trusted
        for user in officers:
            if not any(Role.OFFICER in one.roles for one in known.devices_of(user)):
                raise UnknownUserError
        # Any of them lets the next officer in: whoever began it may be the one who leaves.
        made = await self._device.start(
            ConversationType.GROUP,
            officers,
            title=TITLE,
            retention_class=COMPLIANCE,
            all_own=True,
        )
        # The archive answers where an officer wrote last: without a letter it knows no place, and
        # cannot ask whether officers still hold their keys. Their keys are what there is to say.
        for letter in self.officer.begin(now_ms=self.now_ms, anew=True):
            await self._device.send(made, Official(statements=(letter,)))
        return made

    async def post(self, letters: Iterable[bytes], *, timeout_s: float) -> None:
        """Post letters in the officers' conversation, and return once the relay has them.

        Raises:
            NoOfficersConversationError: This device is in none.
            NotConnectedError: It took longer; they go out later.
        """
        conversation = self.conversation()
        for letter in letters:
            await self._device.send(conversation, Official(statements=(letter,)))
        await self._device.settled(timeout_s)

    async def publish(self, letters: Collection[bytes]) -> int:
        """Hand statements of keys to the archive's recorder; return how many keys they hold.

        Raises:
            NotConnectedError: There is no connection.
            RefusedError: The relay does not take them.
        """
        if recorder_of(self._device.engine.book) is None:
            await self._device.look_up([UserName("archive")])
        recorder = recorder_of(self._device.engine.book)
        if recorder is None:
            raise UnknownUserError
        log = inbox_log(recorder)
        for statement in filter(None, map(statement_of, letters)):
            item = Item(kind=ItemKind.STATEMENT, body=statement).encode()
            await self._device.ask(partial(_post, log=log, item=item))
        return sum(map(_keys_in, letters))

    async def offer(self, scope: Scope, *, purpose: OpeningPurpose, timeout_s: float) -> Offer:
        """Ask the archive what a scope hits, and return its answer.

        Raises:
            NoOfficersConversationError: This device is in none.
            NotConnectedError: It did not answer in time: no session waits there, or it is down.
        """
        letters = self.officer.draft(scope, purpose=purpose)
        await self.post(letters, timeout_s=timeout_s)
        draft = decode_letter(letters[0])
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    await self.sync()
                    for offer in self.officer.offers():
                        if offer.draft == draft:
                            return offer
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise NotOutError from None


def _letters(data: bytes) -> tuple[bytes, ...]:
    """Return the letters in a message; none where it is none of the officers'."""
    try:
        content = decode(data)
    except CryptoError:
        return ()
    return content.statements if isinstance(content, Official) else ()


def quorum_of(device: Device) -> Quorum:
    """Return the quorum that this officer was told at the ceremony.

    Raises:
        NoQuorumError: Nobody has told it.
    """
    kept = device.engine.store.settings.get(_QUORUM)
    if kept is None:
        raise NoQuorumError
    k, n, emergency_k = kept
    return Quorum(k=k, n=n, emergency_k=emergency_k)


def set_quorum(device: Device, quorum: Quorum) -> None:
    """Keep the quorum, as it was agreed at the ceremony; the archive is not asked."""
    kept = bytes((quorum.k, quorum.n, quorum.emergency_k))
    device.engine.store.settings.put(_QUORUM, kept)


def _post(ref: int, *, log: LogId, item: bytes) -> frames.Frame:
    return frames.Post(ref=ref, log=log, statement=item)


def _keys_in(letter: bytes) -> int:

    signed = decode_letter(letter)
    if not isinstance(signed, Signed):
        return 0
    return len(decode_officer_keys(claimed_statement(signed.statement).body).keys)
