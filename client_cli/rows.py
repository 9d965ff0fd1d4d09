"""What a list or a thread says in each row, as plain words: colour only repeats them.

Pure: from the client's values to text. Screens lay it out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from client import targets
from client.courses import (
    CheckInCourse,
    Course,
    HandOffCourse,
    ResultCourse,
    ResultState,
    RoomCourse,
    ShiftCourse,
    TaskCourse,
    VouchCourse,
    VouchState,
)
from client.duty import PageView, RoleView
from client.emergency import Visit
from client.messages import PersonState, State
from client.recipients import Caution, Risk
from client.thread import Unreadable
from client.views import DeviceView, MemberView, PersonView, Roster, Shown, Status, Summary
from client.words import (
    Attachment,
    Claim,
    Closing,
    ConversationType,
    EmergencyVouch,
    HandOffAcceptance,
    IncidentEvent,
    Moderators,
    Mute,
    PagePlace,
    PageStatus,
    Priority,
    ReadBack,
    RoomConfirmation,
    TaskChange,
    TaskState,
    Unknown,
    UserName,
    user_of,
)
from client_cli.output import CommandError, Exit

DAY_MS = 24 * 3600 * 1000
WEEK_MS = 7 * DAY_MS
MINUTE_MS = 60_000
SECOND_MS = 1000

BAR_FROM = 100
"""Messages to catch up with from which a bar is drawn: what is less is there before it is seen."""

BAR_CELLS = 10

Names = Mapping[UserName, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationRow:
    """A conversation in the list.

    Attributes:
        mark: Priority and number of unread, as ``STAT 2``; empty for none.
        title: With the patient, where there is one.
        preview: Who said what last, or why it says nothing.
        when: Of that.
        urgency: Of the unread; for colour.
    """

    mark: str
    title: str
    preview: str
    when: str
    urgency: Priority | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageRow:
    """A message in a thread.

    Attributes:
        when: Time of day.
        who: ``You``, or a name.
        flags: Words beside the name: urgent, acknowledgement asked, edited.
        quote: What it answers, in short.
        body: What it says; may have many lines.
        notes: What became of it, and reactions.
        foot: How far it got; own messages only.
        event: Whether it is a line about what happened and not something said.
        urgency: For colour.
        own: Whether this person said it.
    """

    when: str
    who: str
    body: str
    flags: tuple[str, ...] = ()
    quote: str = ""
    notes: tuple[str, ...] = ()
    foot: str = ""
    event: bool = False
    urgency: Priority = Priority.ROUTINE
    own: bool = False

    def lines(self) -> list[str]:
        """Return the row as plain lines, as a screen reader reads them."""
        flags = f" [{', '.join(self.flags)}]" if self.flags else ""
        if self.event:
            return [f"{self.when} {self.who} {self.body}"]
        quote = [f"  > {self.quote}"] if self.quote else []
        body = [f"  {line}" for line in self.body.splitlines()]
        notes = [f"  = {note}" for note in self.notes]
        foot = [f"  {self.foot}"] if self.foot else []
        return [f"{self.when} {self.who}{flags}", *quote, *body, *notes, *foot]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """By what rows are worded.

    Attributes:
        me: Whose device it is.
        names: Of people, as displayed.
        now_ms: Milliseconds since the epoch.
        zone: Of the times of day; the machine's where None.
    """

    me: UserName
    names: Names = field(default_factory=dict)
    now_ms: int
    zone: tzinfo | None = None

    def name(self, user: UserName) -> str:
        """Return what somebody is called; ``You`` for oneself."""
        return "You" if user == self.me else self.names.get(user, user)

    def all(self, users: Iterable[UserName]) -> str:
        """Return several names."""
        return ", ".join(map(self.name, users))

    def clock(self, at_ms: int) -> str:
        """Return a time of day."""
        return self._at(at_ms).strftime("%H:%M")

    def when(self, at_ms: int) -> str:
        """Return the time today, the weekday within a week, or the date."""
        at, now = self._at(at_ms), self._at(self.now_ms)
        if at.date() == now.date():
            return at.strftime("%H:%M")
        near = abs(at_ms - self.now_ms) < WEEK_MS - DAY_MS
        return at.strftime("%a %H:%M" if near else "%Y-%m-%d")

    def instant(self, text: str) -> int:
        """Return what a typed time means: ``19:00`` is the next one, a date may stand before it.

        Raises:
            CommandError: It is no time.
        """
        day, _, clock = text.strip().rpartition(" ")
        now = self._at(self.now_ms)
        try:
            at = datetime.strptime(f"{day or now.date()} {clock}", "%Y-%m-%d %H:%M")  # noqa: DTZ007 - the zone is set below
            # By the wall, not by today's offset: that is another one once the clocks are changed.
            if not day and self._ms(at) <= self.now_ms:
                at += timedelta(days=1)
            return self._ms(at)
        except (ValueError, OverflowError):
            example = "Write a time as 19:00, or with its day as 2026-11-22 19:00."
            raise CommandError(Exit.USAGE, "usage", example) from None

    def _ms(self, wall: datetime) -> int:
        at = wall.astimezone() if self.zone is None else wall.replace(tzinfo=self.zone)
        return int(at.timestamp() * 1000)

    def _at(self, at_ms: int) -> datetime:
        return datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(self.zone)


def names_of(people: Iterable[PersonView]) -> dict[UserName, str]:
    """Return people's displayed names by user name."""
    return {person.user: person.name for person in people}


def urgency_word(priority: Priority) -> str:
    """Return a priority as it is shown; nothing for routine."""
    return "" if priority is Priority.ROUTINE else priority.name


def conversation_row(summary: Summary, reading: Reading) -> ConversationRow:
    """Return a conversation's row."""
    top = urgency_word(summary.top_priority or Priority.ROUTINE)
    mark = f"{top} {summary.unread}".strip() if summary.unread else ""
    patient = f" · {summary.patient}" if summary.patient else ""
    return ConversationRow(
        mark=mark,
        title=f"{summary.title or 'No title yet'}{patient}",
        preview=_preview(summary, reading),
        when=reading.when(summary.last.at_ms) if summary.last else "",
        urgency=summary.top_priority if summary.unread else None,
    )


def _preview(summary: Summary, reading: Reading) -> str:
    notes = []
    if summary.ended:
        notes.append("you left")
    if summary.held:
        notes.append(f"{summary.held} held until you are on duty")
    if summary.released:
        notes.append(f"{summary.released} came while you were off duty")
    if summary.muted:
        notes.append("muted")
    if summary.opening:
        notes.append("being set up")
    if summary.returning:
        notes.append("being let back in")
    prefix = f"[{', '.join(notes)}] " if notes else ""
    return prefix + (_last(summary.last, reading) if summary.last else "")


def digest_lines(summaries: Iterable[Summary]) -> list[str]:
    """Return what came while this person was off duty, a conversation a line, most urgent first."""
    found = sorted(
        (one for one in summaries if one.released),
        key=lambda one: (-(one.top_priority or Priority.INFO), one.title),
    )
    return [_released(one) for one in found]


def _released(summary: Summary) -> str:
    urgency = urgency_word(summary.top_priority or Priority.ROUTINE)
    words = f"{summary.title or 'No title yet'}: {summary.released} held for you"
    return f"{words}, {urgency}" if urgency else words


def alarm_line(stat: Sequence[Summary], reading: Reading) -> str:
    """Return what STAT waits unread, for a line that stays until it is read; empty for nothing."""
    if not stat:
        return ""
    more = f"  (and {len(stat) - 1} more)" if len(stat) > 1 else ""
    last = stat[0].last
    # What was said after it reads as if that were all: better no words than another message's.
    is_last = last is not None and last.priority is Priority.STAT
    words = _preview(stat[0], reading) if is_last else f"{stat[0].unread} unread"
    return f"STAT in {stat[0].title or 'a new conversation'}{more}: {words}"


def _last(shown: Shown, reading: Reading) -> str:
    row = message_row(shown, reading)
    first = row.body.splitlines()[0] if row.body else ""
    return f"{row.who} {first}" if row.event else f"{row.who}: {first}"


def message_row(
    shown: Shown, reading: Reading, *, quoted: Shown | None = None, audience: int = 0
) -> MessageRow:
    """Return a message's row.

    Args:
        shown: The message.
        reading: By what it is worded.
        quoted: What it answers, where that is here.
        audience: How many people are to read it, without its sender.
    """
    when = reading.when(shown.at_ms)
    if isinstance(shown.content, Roster):
        # Who comes in by a Welcome is told who is in it, and not by whom.
        by = reading.name(user_of(shown.content.by)) if shown.content.by else "In it:"
        return MessageRow(when=when, who=by, body=_roster(shown.content, reading), event=True)
    who = reading.name(user_of(shown.sender))
    if shown.state is State.RETRACTED:
        return MessageRow(when=when, who=who, body="took this message back", event=True)
    return MessageRow(
        when=when,
        who=who,
        flags=_flags(shown, reading),
        quote=_quote(shown, quoted, reading),
        body=_body(shown, reading),
        notes=_notes(shown, reading),
        foot=_foot(shown, audience) if shown.own else "",
        event=isinstance(shown.content, _EVENTS),
        urgency=shown.priority,
        own=shown.own,
    )


def _body(shown: Shown, reading: Reading) -> str:
    if isinstance(shown.content, Unreadable):
        return "(This message is damaged and cannot be shown. Ask its sender to write it again.)"
    if isinstance(shown.content, Unknown):
        return "(This message needs a newer program.)"
    if isinstance(shown.content, EmergencyVouch):
        name = reading.name(shown.content.user)
        return f"vouches for the emergency access of {name}\n{shown.content.reason}"
    return shown.text


_EVENTS = (
    TaskChange,
    Claim,
    Closing,
    ReadBack,
    HandOffAcceptance,
    RoomConfirmation,
    Moderators,
    Mute,
    IncidentEvent,
)


def _roster(roster: Roster, reading: Reading) -> str:
    by = user_of(roster.by)
    joined = tuple(user for user in roster.joined if user != by)
    parts = []
    if joined:
        parts.append(f"added {reading.all(joined)}" if by else reading.all(joined))
    if by in roster.joined:
        parts.append("joined")
    gone = tuple(user for user in roster.left if user != by)
    if gone:
        parts.append(f"removed {reading.all(gone)}")
    if by in roster.left:
        parts.append("left")
    if not parts and roster.added:
        parts.append(f"let in a device of {reading.all(sorted(set(map(user_of, roster.added))))}")
    if not parts and roster.removed:
        parts.append(f"let go a device of {reading.all(sorted(set(map(user_of, roster.removed))))}")
    for guest, until_ms in roster.guests.items():
        words = reading.all(roster.vouchers)
        parts.append(
            f"EMERGENCY ACCESS for {reading.name(guest)} until {reading.when(until_ms)}, "
            f"on the word of {words}"
        )
    return "; ".join(parts) or "renewed the keys"


def _flags(shown: Shown, reading: Reading) -> tuple[str, ...]:
    flags = [urgency_word(shown.priority)]
    if shown.target.name:
        flags.append(f"to {targets.words(shown.target, reading.names)}")
    if shown.acknowledgement_asked:
        flags.append("please acknowledge")
    if shown.edited:
        flags.append("edited")
    return tuple(flag for flag in flags if flag)


def _quote(shown: Shown, quoted: Shown | None, reading: Reading) -> str:
    if shown.reply_to is None:
        return ""
    if quoted is None or not quoted.text:
        return "an earlier message"
    return f"{reading.name(user_of(quoted.sender))}: {quoted.text.splitlines()[0]}"


def _notes(shown: Shown, reading: Reading) -> tuple[str, ...]:
    notes = [] if shown.course is None else [course_words(shown.course, reading)]
    if isinstance(shown.content, Attachment):
        notes.append(f"{size_words(shown.content.size)}, key s saves it")
    notes += [f"{mark} {reading.all(people)}" for mark, people in shown.reactions.items()]
    if not shown.own:
        notes += [
            f"acknowledged by {reading.name(user)} {reading.when(at_ms)}"
            for user, (state, at_ms) in shown.people.items()
            if state is PersonState.ACKNOWLEDGED
        ]
    return tuple(notes)


def size_words(size: int) -> str:
    """Return a number of bytes as people say it."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.0f} {unit}"
    return f"{size} bytes"


def _foot(shown: Shown, audience: int) -> str:
    if shown.state is State.WAITING:
        return "waiting to be sent"
    if shown.state is State.REFUSED:
        return "NOT SENT: the relay refused it"
    archived = "archived" if shown.archived else "not yet archived"
    return f"{progress(shown, audience)} · {archived}"


def progress(shown: Shown, audience: int) -> str:
    """Return how far an own message got, in words: the furthest that some have come, and the rest.

    Args:
        shown: The message.
        audience: How many people are to read it.
    """
    counts = Counter(state for state, _ in shown.people.values())
    acknowledged = counts[PersonState.ACKNOWLEDGED]
    read = acknowledged + counts[PersonState.READ]
    delivered = read + counts[PersonState.DELIVERED]
    total = max(audience, delivered)
    if acknowledged:
        return f"acknowledged by {acknowledged} of {total}"
    if read:
        return f"read by {read} of {total}"
    return f"delivered to {delivered} of {total}" if delivered else "sent"


def course_words(course: Course, reading: Reading) -> str:
    """Return what became of something, in words."""
    words: Callable[[Any, Reading], str] = _COURSES[type(course)]
    return words(course, reading)


def _task(course: TaskCourse, reading: Reading) -> str:
    who = reading.name(course.assignee) if course.assignee else "nobody yet"
    by = course.changed
    at = f" ({reading.name(by.user)} {reading.when(by.at_ms)})" if by else ""
    return {
        TaskState.OPEN: f"OPEN: {who}",
        TaskState.TAKEN: f"TAKEN by {who}{at}",
        TaskState.DONE: f"DONE{at}",
        TaskState.CANCELLED: f"CANCELLED{at}",
    }[course.state]


def _result(course: ResultCourse, reading: Reading) -> str:
    wrong = f"; NOT the value that {reading.all(course.wrong)} read back" if course.wrong else ""
    if course.state is ResultState.OPEN or course.read_back is None:
        return f"NOT YET READ BACK{wrong}"
    back = course.read_back
    read = f"read back by {reading.name(back.user)} {reading.when(back.at_ms)}"
    if course.closed is None:
        return f"{read}, still open{wrong}"
    return f"{read}, CLOSED by {reading.name(course.closed.user)}{wrong}"


def _hand_off(course: HandOffCourse, reading: Reading) -> str:
    accepted = ", ".join(
        f"{reading.name(by.user)} {reading.when(by.at_ms)}" for by in course.accepted
    )
    parts = [f"ACCEPTED by {accepted}"] if accepted else []
    if course.awaited or not parts:
        parts.append(f"NOT YET ACCEPTED by {reading.all(course.awaited) or 'anybody'}")
    return "; ".join(parts)


def _shift(course: ShiftCourse, reading: Reading) -> str:
    if course.winner is None:
        return "STILL OPEN"
    late = f"; too late: {reading.all(course.late)}" if course.late else ""
    return f"TAKEN by {reading.name(course.winner.user)}{late}"


def _check_in(course: CheckInCourse, reading: Reading) -> str:
    answers = [
        f"{reading.name(user)}: {'; '.join(one or '-' for one in given)}"
        for user, given in course.answers.items()
    ]
    told = " | ".join(answers) or "nobody has answered yet"
    return told + _deadline(course.answer_by_ms, reading)


def _deadline(answer_by_ms: int, reading: Reading) -> str:
    """Say until when an answer is awaited, or that the time is over."""
    if not answer_by_ms:
        return ""
    over = reading.now_ms >= answer_by_ms
    return (
        f" (TIME IS OVER since {reading.when(answer_by_ms)})"
        if over
        else (f" (by {reading.when(answer_by_ms)})")
    )


def _room(course: RoomCourse, reading: Reading) -> str:
    if course.granted is None or course.by is None:
        return "NOT YET ANSWERED" + _deadline(course.answer_by_ms, reading)
    return f"{'CONFIRMED' if course.granted else 'REFUSED'} by {reading.name(course.by.user)}"


def _vouch(course: VouchCourse, reading: Reading) -> str:
    end = reading.when(course.until_ms)
    return {
        VouchState.OPEN: f"until {end}; A SECOND COLLEAGUE MUST VOUCH",
        VouchState.IN: f"LET IN until {end}",
        VouchState.LAPSED: "over",
    }[course.state]


_COURSES: dict[type[object], Callable[[Any, Reading], str]] = {
    TaskCourse: _task,
    ResultCourse: _result,
    HandOffCourse: _hand_off,
    ShiftCourse: _shift,
    CheckInCourse: _check_in,
    RoomCourse: _room,
    VouchCourse: _vouch,
}


def duty_line(roles: Sequence[RoleView], reading: Reading) -> str:
    """Return what this person is on call for, for the top of the screen."""
    mine = [role for role in roles if role.mine]
    if not mine:
        return "off duty"
    return "on call: " + ", ".join(f"{role.role}{until(role.until_ms, reading)}" for role in mine)


def until(until_ms: int | None, reading: Reading) -> str:
    """Return `` until 19:00``; nothing where no schedule says."""
    return "" if until_ms is None else f" until {reading.when(until_ms)}"


def status_line(status: Status, *, behind: int = 0) -> str:
    """Return how the device stands, for the top of the screen, in words.

    Args:
        status: Of the device.
        behind: How much there was to catch up with when it began; 0 draws no bar.
    """
    parts = ["DISK FULL: nothing new is kept"] if status.disk_full else []
    parts.append("online" if status.online else "OFFLINE")
    if status.catching_up:
        bar = ""
        if behind >= BAR_FROM:
            done = max(0, behind - status.catching_up)
            filled = done * BAR_CELLS // behind
            bar = f" [{'#' * filled}{'.' * (BAR_CELLS - filled)}] {100 * done // behind}%,"
        parts.append(f"catching up{bar} {status.catching_up:,}")
    if status.unsent:
        parts.append(f"{status.unsent} unsent")
    if status.archived_lag_ms >= MINUTE_MS:
        parts.append(f"archive {status.archived_lag_ms // MINUTE_MS} min behind")
    if status.faults:
        parts.append(f"{status.faults} FAULT{'' if status.faults == 1 else 'S'} (key v)")
    return " · ".join(parts)


def member_line(member: MemberView, reading: Reading) -> str:
    """Return a person of a conversation in one line."""
    if member.is_recorder:
        return f"{member.name}: keeps every message, sealed; it is in every conversation"
    count = len(member.devices)
    part = ", owner" if member.is_owner else ", moderator" if member.is_moderator else ""
    devices = f"{count} device{'' if count == 1 else 's'}"
    line = f"{reading.name(member.user)} ({member.user}{part}): {devices}"
    if member.guest_until_ms:
        words = reading.all(member.vouchers)
        line += f"; EMERGENCY ACCESS until {reading.when(member.guest_until_ms)}, by {words}"
    if member.muted_until_ms:
        line += f"; muted until {reading.when(member.muted_until_ms)}"
    return line


def visits_line(visits: Sequence[Visit], reading: Reading) -> str:
    """Return who is here by emergency access, for the head of a thread; empty for nobody."""
    found = [f"{reading.name(one.user)} until {reading.when(one.until_ms)}" for one in visits]
    return f"EMERGENCY ACCESS: {', '.join(found)}" if found else ""


def device_line(device: DeviceView, reading: Reading) -> str:
    """Return a device, whether it is this one, and until when it is valid."""
    valid = f"valid until {reading.when(device.certified_until_ms)}"
    this = " (this one)" if device.this else ""
    return f"{device.device}{this}: {'NO LONGER VALID' if device.revoked else valid}"


def role_line(role: RoleView, reading: Reading) -> tuple[str, str, str]:
    """Return a role, who has it, and who comes next."""
    if role.on_call:
        now = called(role, role.on_call, reading) + until(role.until_ms, reading)
    else:
        answers = called(role, role.fallback, reading)
        now = f"NOBODY{until(role.until_ms, reading)}; {answers} answers"
    for proposal in role.proposals:
        now += f"; a swap waits for {reading.name(proposal.waits_for)}"
    name = f"{role.role} (tel. {role.number})" if role.number else role.role
    return name, now, reading.all(role.following) or "-"


def called(role: RoleView, users: Iterable[UserName], reading: Reading) -> str:
    """Return people's names with the number by which each is called, where there is one."""
    numbers = ((user, role.numbers.get(user)) for user in users)
    return ", ".join(
        f"{reading.name(user)} (tel. {number})" if number else reading.name(user)
        for user, number in numbers
    )


def caution_line(caution: Caution, reading: Reading) -> str:
    """Return one line of the recipient check."""
    if caution.risk is Risk.SIMILAR_NAME:
        return f"{caution.name} is meant, and not {', '.join(caution.others)}?"
    if caution.risk is Risk.OUTSIDE:
        return f"{caution.name} is not in this conversation and will NOT see it."
    held = "gets it then" if caution.held else "gets it without a sound"
    covers = f" Covered by {', '.join(caution.others)}." if caution.others else ""
    end = until(caution.until_ms, reading) or ", nobody knows until when"
    return f"{caution.name} is off duty{end}, and {held}.{covers}"


def off_duty_line(cautions: Sequence[Caution], reading: Reading) -> str:
    """Return one line for the composer: who is off duty."""
    away = [one for one in cautions if one.risk is Risk.OFF_DUTY]
    if not away:
        return ""
    names = ", ".join(f"{one.name}{until(one.until_ms, reading)}" for one in away[:3])
    more = f" and {len(away) - 3} more" if len(away) > 3 else ""
    return f"Off duty: {names}{more}"


PLACES = {
    PagePlace.SENT: "not reached yet",
    PagePlace.DELIVERED: "reached",
    PagePlace.SHOWN: "seen",
    PagePlace.ACCEPTED: "ACCEPTED",
    PagePlace.DECLINED: "declined",
    PagePlace.NOT_MINE: "passed on",
    PagePlace.DONE: "DONE",
    PagePlace.EXPIRED: "too late",
    PagePlace.UNANSWERED: "no answer",
    PagePlace.RELIEVED: "relieved",
}
"""Where a page stands with somebody, in words."""


def page_lines(page: PageView, reading: Reading) -> list[str]:
    """Return a page in lines: to whom, from whom, what, and where it stands."""
    asked = [f"{reading.name(user)} ({PLACES[place]})" for user, place in page.asked.items()]
    head = f"{page.priority.name} for {page.role}, from {reading.name(page.sender)}"
    return [
        f"{head}, {reading.when(page.started_ms)}",
        page.text or "(its text is not here yet)",
        f"Asked, step {page.step}: {', '.join(asked) or 'nobody'}",
        *_shift_change(page, reading),
        SILENT if page.silent else _next_step(page, reading),
    ]


SILENT = "THE RELAY HAS MISSED A STEP. Page again, or call."
"""What a sender is told whose page goes no further, as after a relay was restored."""


def _shift_change(page: PageView, reading: Reading) -> list[str]:
    """Say whose shift has ended with the page in hand: whoever came on call accepts it."""
    names = ", ".join(reading.name(user) for user in page.leaving)
    return [f"Shift ended, to be relieved: {names}"] if names else []


def _next_step(page: PageView, reading: Reading) -> str:
    if page.status is not PageStatus.OPEN and not (page.leaving and page.next_ms):
        return {
            PageStatus.ACCEPTED: f"{_acceptor(page)} accepted it.",
            PageStatus.DONE: "It is done.",
            PageStatus.EXPIRED: "It has expired.",
            PageStatus.UNANSWERED: "NOBODY ANSWERED. A supervisor was told.",
        }[page.status]
    if page.next_ms is None:
        return "It goes no further."
    left_s = max(0, page.next_ms - reading.now_ms) // SECOND_MS
    return f"If nobody accepts, it goes to the next in {left_s // 60}:{left_s % 60:02}."


def _acceptor(page: PageView) -> str:
    return "You have" if page.mine is PagePlace.ACCEPTED else "Somebody has"


def page_keys(page: PageView) -> str:
    """Return which answers a page takes from this person now."""
    if page.mine is None:
        return ""
    if page.mine is PagePlace.ACCEPTED:
        return "o done  d decline after all  n not mine"
    if page.mine in (PagePlace.DECLINED, PagePlace.NOT_MINE, PagePlace.RELIEVED):
        return "a accept after all"
    return "a accept   d decline   n not mine"


def kind_word(kind: ConversationType) -> str:
    """Return what a conversation is, in a word."""
    return kind.name.lower().replace("_", " ")
