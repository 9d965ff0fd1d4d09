"""What a device shows, read from its store: works without network, and changes nothing."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache

from rapidfuzz import fuzz

from client import courses, emergency, history, rules, thread, wording
from client.engine import Engine
from client.errors import NotMemberError
from client.followed import Cause
from client.following import ROSTER_KIND
from client.messages import FormerVersion, Message, MessageKey, Newest, Unread
from client.records import Known, decode_known, decode_roster
from client.rooms import Room
from client.thread import Unreadable
from client.views import (
    WITHHELD_TEXT,
    DeviceView,
    Letter,
    Membership,
    MemberView,
    PersonView,
    Roster,
    Shown,
    Status,
    Summary,
    Trouble,
    Withheld,
)
from crypto.errors import DecodeError, InvalidError
from protocol.authenticated_data import Priority
from protocol.content import (
    Card,
    Content,
    EmergencyVouch,
    HistoryHandOver,
    Kind,
    Official,
    Unknown,
)
from protocol.group_context import ConversationType, WardlineContext
from protocol.identifiers import ConversationId, DeviceId, RoleName, UserName, user_of

NOTHING_UNREAD = Unread(count=0, top_priority=None)

CONTEXTS_KEPT = 1_024
"""Decoded contexts: many conversations have the same, as it names no more than their owners."""

LOOKED_THROUGH = (1_000, 10_000)
"""Last messages through which the newest conversations are looked for; where these are too few, all
of them are. The second costs about 50 ms, all of 100,000 half a second."""

TROUBLES = 20
"""Faults that are told one by one: who has more needs the first of them looked at."""

LIKE_ENOUGH = 70
"""Of 100: how like a person's name a typed one must be to be offered."""


class Reading:
    """Reads what faces show."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._store = engine.store
        self._user = user_of(engine.me)
        self.is_hidden: Callable[[ConversationId, WardlineContext], bool] = lambda *_: False

    # -- threads -------------------------------------------------------------------------------

    def messages(
        self, conversation: ConversationId, *, limit: int, before: int | None
    ) -> list[Shown]:
        """Return a page of a thread."""
        page = self._store.messages.page(conversation, limit=limit, before=before)
        return [self.shown(message) for message in page]

    def message(self, key: MessageKey) -> Shown | None:
        """Return one message, or None."""
        found = self._store.messages.get(key)
        return None if found is None else self.shown(found)

    def history(self, key: MessageKey) -> list[Shown]:
        """Return what a message said before it was edited."""
        found = self._store.messages.get(key)
        if found is None:
            return []
        return [self._former(found, one) for one in self._store.messages.history(key)]

    def search(self, text: str, conversation: ConversationId | None) -> list[Shown]:
        """Return messages that have every word of a text."""
        found = self._store.messages.search(text, conversation=conversation)
        return [self.shown(message) for message in found if self._may_view(message)]

    def is_own(self, key: MessageKey) -> bool:
        """Tell whether this person sent a message."""
        return user_of(key.sender) == self._user

    def shown(self, message: Message) -> Shown:
        """Return a message as a thread shows it."""
        return self._shown(message, answered=True)

    def _shown(self, message: Message, answered: bool) -> Shown:
        """Return the same; ``answered`` is false only where nothing is about the message."""
        own = self.is_own(message.key)
        if not self._may_view(message):
            return _withheld(message)
        content, text = self._content(message)
        answers = thread.answers_to(self._store.messages, message.key) if answered else []
        standing = message.standing
        return Shown(
            key=message.key,
            sender=message.key.sender,
            at_ms=message.at_ms,
            place=message.place,
            state=message.state,
            priority=standing.priority,
            content=content,
            text=text,
            target=standing.target,
            acknowledgement_asked=standing.acknowledgement_asked,
            people=self._store.messages.people(message.key) if own else {},
            archived=own and self._store.evidence.is_archived(message.key),
            edited=message.revisions,
            reply_to=standing.about,
            course=self._course(message, content, answers),
            reactions=courses.reactions(answers),
            own=own,
        )

    def _may_view(self, message: Message) -> bool:
        """Tell whether a message may be shown: one's own words always, and who came and went."""
        known = message.content.kind == ROSTER_KIND or self.is_own(message.key)
        return known or self._engine.rights.may_view(message.key.conversation)

    def _content(self, message: Message) -> tuple[Content | Unknown | Unreadable | Roster, str]:
        kept = message.content
        if kept.kind == ROSTER_KIND:
            roster = decode_roster(kept.data)
            return roster, self._told(roster)
        content = thread.read(kept.data)
        if isinstance(content, Unreadable | Unknown):
            return content, kept.text
        if isinstance(content, HistoryHandOver):
            where = message.key.conversation
            return content, history.told(content, self._store.messages, where)
        return content, wording.say(content)

    def _course(
        self, message: Message, content: object, answers: Sequence[courses.Answer]
    ) -> courses.Course | None:
        if isinstance(content, Roster):
            return None
        if isinstance(content, EmergencyVouch):
            context = self._engine.rooms.context(self._engine.rooms.get(message.key.conversation))
            guests = () if context is None else context.guests
            return emergency.course(message, guests, now_ms=self._engine.clock())
        return thread.course_of(message, answers)

    def _told(self, roster: Roster) -> str:
        """Return a change of members in words."""
        parts = []
        if roster.joined:
            parts.append("joined: " + ", ".join(map(self.name_of, roster.joined)))
        if roster.left:
            parts.append("left: " + ", ".join(map(self.name_of, roster.left)))
        if not parts and roster.added:
            parts.append("new device: " + ", ".join(roster.added))
        if not parts and roster.removed:
            parts.append("device removed: " + ", ".join(roster.removed))
        if roster.guests:
            words = ", ".join(map(self.name_of, roster.vouchers))
            guests = ", ".join(map(self.name_of, roster.guests))
            parts.append(f"EMERGENCY ACCESS: {guests}, vouched for by {words}")
        return "; ".join(parts) or "keys renewed"

    def _former(self, message: Message, version: FormerVersion) -> Shown:
        if not self._may_view(message):
            return _withheld(message)
        content = thread.read(version.content.data)
        readable = not isinstance(content, Unreadable | Unknown)
        return Shown(
            key=message.key,
            sender=message.key.sender,
            at_ms=version.at_ms,
            until_ms=version.until_ms,
            place=message.place,
            state=message.state,
            priority=message.standing.priority,
            content=content,
            text=wording.say(content) if readable else version.content.text,  # type: ignore[arg-type]
        )

    # -- conversations -------------------------------------------------------------------------

    def conversations(self, limit: int | None) -> list[Summary]:
        """Return every conversation, or the first ones: the one with the newest message first."""
        if limit is not None and limit < len(self._store.all_followed()):
            for messages in LOOKED_THROUGH:
                if found := self._latest(limit, messages):
                    return found
        return self._all()[:limit]

    def _latest(self, limit: int, messages: int) -> list[Summary]:
        """Return the first of the list; none where the last ``messages`` do not say which they are.

        A conversation stands where its last message does, by place; that one is never later than
        its latest by time. So whatever is as late as the next one's latest stands before it.
        """
        found: list[Summary] = []
        for conversation, at_ms in self._store.messages.recent(messages).items():
            if sum(_last_ms(one) >= at_ms for one in found) >= limit:
                return sorted(found, key=_last_ms, reverse=True)[:limit]
            found += self._summaries([conversation])
        return []

    def alarming(self) -> list[Summary]:
        """Return the conversations in which something is STAT and unread, the newest first."""
        places = self._store.messages.stat()
        behind = [
            conversation
            for conversation, place in places.items()
            if place > decode_known(self._store.followed(conversation)).read_through
        ]
        stat = [one for one in self._summaries(behind) if one.top_priority is Priority.STAT]
        return sorted(stat, key=_last_ms, reverse=True)

    def released(self) -> list[Summary]:
        """Return the conversations with messages that waited for this person's shift."""
        states = self._store.all_followed().items()
        held = [conversation for conversation, state in states if decode_known(state).held]
        return [one for one in self._summaries(held) if one.released]

    def _summaries(self, conversations: Iterable[ConversationId]) -> Iterator[Summary]:
        """Give conversations, but for those that are not shown."""
        for conversation in conversations:
            with suppress(NotMemberError):
                yield self.summary(conversation)

    def _all(self) -> list[Summary]:
        newest = self._store.messages.newest()
        cards = self._store.messages.newest_of_kind(Kind.CARD)
        found = [
            self._summary(
                conversation,
                decode_known(data),
                newest=newest.get(conversation),
                card=thread.read_card(cards[conversation]) if conversation in cards else None,
            )
            for conversation, data in self._store.all_followed().items()
        ]
        return sorted(
            (one for one in found if one is not None),
            key=_last_ms,
            reverse=True,
        )

    def summary(self, conversation: ConversationId) -> Summary:
        """Return one conversation.

        Raises:
            NotMemberError: This device has never been in it.
        """
        last = self._store.messages.page(conversation, limit=1)
        found = self._summary(
            conversation,
            decode_known(self._store.followed(conversation)),
            newest=Newest(message=last[0], answered=True) if last else None,
            card=thread.card(self._store.messages, conversation),
        )
        if found is None:
            raise NotMemberError
        return found

    def _summary(
        self,
        conversation: ConversationId,
        known: Known,
        *,
        newest: Newest | None,
        card: Card | None,
    ) -> Summary | None:
        context = _context(known.context)
        if context is None or self.is_hidden(conversation, context):
            return None
        may_view = self._engine.rights.may_view(conversation)
        unread = self._unread(conversation, known, newest) if may_view else NOTHING_UNREAD
        card = card if may_view else None
        people = self.people_of(known, context)
        now_ms = self._engine.clock()
        return Summary(
            conversation=conversation,
            kind=context.conversation_type,
            title=(card.title if card else "") or self._title(context, people),
            patient=(card.patient if card else "") or None,
            unread=unread.count,
            top_priority=unread.top_priority,
            last=None if newest is None else self._shown(newest.message, newest.answered),
            muted=known.muted,
            held=sum(1 for until_ms in known.held.values() if until_ms > now_ms),
            released=sum(1 for until_ms in known.held.values() if until_ms <= now_ms),
            people=len(people),
            ended=known.ended,
            opening=not known.confirmed,
            returning=known.returning and self._store.groups.get(conversation) is None,
            peer=self._peer(context, people, opening=not known.confirmed),
        )

    def _peer(
        self, context: WardlineContext, people: set[UserName], *, opening: bool
    ) -> UserName | None:
        """Return the other person of a direct conversation."""
        if context.conversation_type is not ConversationType.DIRECT:
            return None
        others = people - {self._user}
        if not others and opening:
            # Who has begun it and waits begins no second one; both own it.
            others = set(context.owners) - {self._user}
        return min(others, default=None)

    def _unread(self, conversation: ConversationId, known: Known, newest: Newest | None) -> Unread:
        if newest is None or newest.message.place <= known.read_through:
            return NOTHING_UNREAD
        return self._store.messages.unread(
            conversation, after=known.read_through, reader=self._user
        )

    def _title(self, context: WardlineContext, people: Iterable[UserName]) -> str:
        others = sorted(set(people) - {self._user})
        if context.conversation_type is ConversationType.DIRECT and not others:
            others = [owner for owner in context.owners if owner != self._user]
        return ", ".join(map(self.name_of, others))

    def people_of(self, known: Known, context: WardlineContext) -> set[UserName]:
        """Return the people of a conversation, without loading its group."""
        present = known.since_ms.keys() - known.until_ms.keys()
        return {user_of(device) for device in present if device != context.recorder}

    def members(self, room: Room) -> list[MemberView]:
        """Return the people of a conversation, and the archive last.

        Raises:
            NotMemberError: This device has never been in it.
        """
        context = self._engine.rooms.context(room)
        if context is None:
            raise NotMemberError
        by_user: dict[UserName, list[DeviceId]] = {}
        found = self._engine.rooms.members(room)
        for device in sorted(found):
            by_user.setdefault(user_of(device), []).append(device)
        guests = {guest.user: guest for guest in context.guests}
        known = self._engine.book.trusted.trust.devices
        moderation, now_ms = self._engine.rooms.setting(room).moderation, self._engine.clock()
        muted = {user: at_ms for user, at_ms in moderation.muted.items() if at_ms > now_ms}
        views = [
            MemberView(
                user=user,
                name=self.name_of(user),
                devices=tuple(devices),
                is_recorder=context.recorder in devices,
                is_owner=user in context.owners,
                certified_until_ms=max(found[device].not_after_ms for device in devices),
                guest_until_ms=guests[user].until_ms if user in guests else 0,
                vouchers=rules.vouchers(guests[user], found, known) if user in guests else (),
                is_moderator=user in moderation.moderators,
                muted_until_ms=muted.get(user, 0),
            )
            for user, devices in by_user.items()
        ]
        return sorted(views, key=lambda view: (view.is_recorder, view.name))

    def memberships(self) -> list[Membership]:
        """Return which devices are and were in conversations."""
        return [
            Membership(
                conversation=conversation,
                device=device,
                from_ms=since_ms,
                until_ms=known.until_ms.get(device),
            )
            for conversation, data in self._store.all_followed().items()
            for known in [decode_known(data)]
            for device, since_ms in sorted(known.since_ms.items())
        ]

    def officials(self, after: int) -> list[Letter]:
        """Return what officers and the archive have sent, oldest first, behind a number."""
        return [
            Letter(
                number=number,
                conversation=message.key.conversation,
                sender=message.key.sender,
                at_ms=message.at_ms,
                statements=content.statements,
            )
            for number, message in self._store.messages.numbered(Kind.OFFICIAL, after=after)
            if message.key.sender != self._engine.me
            if isinstance(content := thread.read(message.content.data), Official)
        ]

    # -- people --------------------------------------------------------------------------------

    def name_of(self, user: UserName) -> str:
        """Return how a person is displayed."""
        person = self._engine.book.trusted.people.get(user)
        return person.name if person is not None and person.name else user

    def directory(
        self, text: str, having: Mapping[UserName, tuple[RoleName, ...]]
    ) -> list[PersonView]:
        """Return people who are like a text, best first; all of them for none.

        Args:
            text: As it was typed.
            having: Which on-call roles people have now.
        """
        trusted = self._engine.book.trusted
        users = {UserName(user) for user in trusted.trust.origins} | set(trusted.people)
        views = [self._person(user, having.get(user, ())) for user in users - trusted.gone.keys()]
        if not text.strip():
            return sorted(views, key=lambda view: view.name.casefold())
        wanted = _plain(text)
        scored = [(self._likeness(wanted, view), view) for view in views]
        good = [pair for pair in scored if pair[0] >= LIKE_ENOUGH]
        return [view for _, view in sorted(good, key=lambda pair: (-pair[0], pair[1].user))]

    def _person(self, user: UserName, on_call: tuple[RoleName, ...]) -> PersonView:
        trusted = self._engine.book.trusted
        person = trusted.people.get(user)
        roles = tuple(sorted(role for role, users in trusted.holders.items() if user in users))
        return PersonView(
            user=user,
            name=self.name_of(user),
            ward="" if person is None else person.ward,
            roles=roles,
            on_call=on_call,
        )

    def _likeness(self, wanted: str, view: PersonView) -> float:
        fields = (view.name, view.user, view.ward, *view.roles)
        return max(_likeness(wanted, _plain(one)) for one in fields)

    def devices(self, user: UserName) -> list[DeviceView]:
        """Return a person's devices, as far as they are known here."""
        trusted = self._engine.book.trusted
        return [
            DeviceView(
                device=DeviceId(one.name),
                this=one.name == self._engine.me,
                certified_until_ms=one.not_after_ms,
                revoked=trusted.trust.revocations.since_ms(one) is not None
                or DeviceId(one.name) in trusted.suspended,
            )
            for one in trusted.devices_of(user)
        ]

    # -- status --------------------------------------------------------------------------------

    def status(self) -> Status:
        """Return how the device stands."""
        engine = self._engine
        oldest_ms, faults = self._store.evidence.oldest_ms(), self._store.faults.all()
        return Status(
            online=engine.link is not None,
            catching_up=engine.catching_up,
            unsent=engine.sending.unsent,
            faults=len(faults),
            archived_lag_ms=0 if oldest_ms is None else max(0, engine.clock() - oldest_ms),
            disk_full=engine.disk_full,
            troubles=tuple(
                Trouble(log=one.log, cause=Cause(one.cause).name, at_ms=one.at_ms)
                for one in faults[: -TROUBLES - 1 : -1]
            ),
            shut_out=engine.shut_out,
        )


def _withheld(message: Message) -> Shown:
    """Return a message as who may not read it sees it: that it is there, and whose it is."""
    return Shown(
        key=message.key,
        sender=message.key.sender,
        at_ms=message.at_ms,
        place=message.place,
        state=message.state,
        priority=message.standing.priority,
        content=Withheld(),
        text=WITHHELD_TEXT,
    )


def _last_ms(summary: Summary) -> int:
    return summary.last.at_ms if summary.last else 0


@lru_cache(maxsize=CONTEXTS_KEPT)
def _context(encoded: bytes) -> WardlineContext | None:
    if not encoded:
        return None
    try:
        return WardlineContext.decode(encoded)
    except (DecodeError, InvalidError):
        return None


def _plain(text: str) -> str:
    """Return a text without case and accents."""
    spread = unicodedata.normalize("NFKD", text.casefold())
    return "".join(one for one in spread if not unicodedata.combining(one))


def _likeness(wanted: str, text: str) -> float:
    if not text:
        return 0
    if text.startswith(wanted) or any(word.startswith(wanted) for word in text.split()):
        return 100
    words = (wanted, text, *text.split())
    return max(fuzz.ratio(wanted, one) for one in words[1:])
