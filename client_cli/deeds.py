"""What a person does in a conversation beyond writing: the same for commands and the line mode."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from client import recipients
from client.emergency import STAY_MS, Vouched
from client.views import Shown
from client.words import (
    CheckIn,
    CheckInAnswer,
    Content,
    ConversationId,
    Edit,
    EmergencyVouch,
    Moderators,
    Mute,
    Priority,
    Reaction,
    ReadBack,
    UserName,
)
from client_cli import actions
from client_cli.actions import Act
from client_cli.forms import FORMS
from client_cli.output import CommandError, Exit
from client_cli.rows import MINUTE_MS, Reading, caution_line, names_of

if TYPE_CHECKING:
    from client.device import Device
    from client_cli.seat import Seat

MUTE_MINUTES = 60
"""How long a moderator folds somebody's messages away at once: a pause, not a sentence."""

STAY_MINUTES = STAY_MS // MINUTE_MS
"""How long emergency access lasts unless the first voucher says otherwise, in minutes."""

SAID = {
    Vouched.FIRST: "You have vouched. A second colleague here must, within the hour.",
    Vouched.SECOND: "You are the second to vouch. They are let in now; all see it.",
}
"""What came of vouching, in words."""


def reading_of(device: Device) -> Reading:
    """Return by what a command words what it prints."""
    return Reading(me=device.user, names=names_of(device.directory()), now_ms=device.now_ms())


def cautions(seat: Seat, shown: Shown, reading: Reading, *, begun: bool) -> list[str]:
    """Return, in words, what the sender of a message should know of who has it now.

    Whoever is outside, or off duty until when and who covers; and, where the conversation was
    ``begun`` with it, whose name is nearly the same.
    """
    everybody = seat.directory()
    members = [one.user for one in seat.members(shown.key.conversation) if not one.is_recorder]
    meant = seat.duty.meant(shown.target)
    others = [user for user in (members if meant is None else meant) if user != seat.user]
    found = recipients.outside(shown.text, members=members, everybody=everybody)
    if begun:
        found += recipients.similar((one for one in everybody if one.user in others), everybody)
    if len(others) <= recipients.ASKED_ABOUT:
        found += recipients.off_duty(seat.duty.reach(others, shown.priority), reading.names)
    return [caution_line(one, reading) for one in found]


async def edit(seat: Seat, shown: Shown, text: str) -> Shown | None:
    """Change an own message; what it said before stays visible."""
    content = Edit(target=actions.reference(shown), text=text)
    return await seat.send(shown.key.conversation, content)


async def react(seat: Seat, shown: Shown, mark: str, *, removed: bool) -> Shown | None:
    """Put a sign beside a message, or take it away."""
    content = Reaction(target=actions.reference(shown), mark=mark, removed=removed)
    return await seat.send(shown.key.conversation, content)


async def do(seat: Seat, shown: Shown, act: str, text: str) -> Shown | None:
    """Do what a message asks for: take a task, read a value back, accept a hand-off.

    Raises:
        CommandError: Nothing like that can be done with it now.
    """
    possible = actions.possible(shown, seat.user)
    if not possible:
        raise CommandError(Exit.REFUSED, "not_possible", "Nothing can be done with this message.")
    wanted = (act or possible[0].name).upper().replace("-", "_")
    found = next((one for one in possible if one.name == wanted), None)
    if found is None:
        names = ", ".join(one.name.lower() for one in possible)
        raise CommandError(Exit.REFUSED, "not_possible", f"With this message: {names}")
    if found is Act.VOUCH and isinstance(shown.content, EmergencyVouch):
        await seat.emergency.vouch(shown.key.conversation, shown.content.user)
        return None
    content = actions.answer(found, shown) or _typed(found, shown, text)
    return await seat.send(shown.key.conversation, content)


def _typed(act: Act, shown: Shown, text: str) -> Content:
    target = actions.reference(shown)
    if act is Act.READ_BACK:
        return ReadBack(target=target, value=text)
    if act is Act.ANSWER and isinstance(shown.content, CheckIn):
        return CheckInAnswer(target=target, answers=tuple(text.split("|")))
    raise CommandError(Exit.USAGE, "usage", f"For that there is a command of its own: {act.value}")


async def new(
    seat: Seat,
    conversation: ConversationId,
    what: str,
    *,
    values: Mapping[str, str],
    reading: Reading,
    priority: Priority,
) -> Shown | None:
    """Send a task, a critical result, a hand-off or another form.

    Raises:
        CommandError: There is no such form, or it has no such field.
    """
    form = FORMS.get(what)
    if form is None:
        raise CommandError(Exit.USAGE, "usage", f"That can be: {', '.join(FORMS)}")
    names = [name for name, _ in form.fields]
    if unknown := [name for name in values if name not in names]:
        text = f"No field {unknown[0]!r} in a {what}. It has: {', '.join(names)}"
        raise CommandError(Exit.USAGE, "usage", text)
    filled = {name: values.get(name, "") for name in names}
    return await seat.send(conversation, form.make(filled, reading), priority=priority)


def fields(words: Sequence[str]) -> dict[str, str]:
    """Return what is typed as ``name=value``.

    Raises:
        CommandError: One of them is not.
    """
    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            text = f"Fields are typed as name=value, and {word!r} is not."
            raise CommandError(Exit.USAGE, "usage", text)
        found[name] = value
    return found


async def mute(
    seat: Seat, conversation: ConversationId, user: UserName, *, minutes: int, now_ms: int
) -> None:
    """Fold somebody's messages below urgent away for a time; 0 minutes end it now."""
    until_ms = now_ms + minutes * MINUTE_MS if minutes else 0
    await seat.send(conversation, Mute(user=user, until_ms=until_ms))


async def moderate(seat: Seat, conversation: ConversationId, users: Collection[UserName]) -> None:
    """Say who may mute beside the owners, from now on."""
    await seat.send(conversation, Moderators(users=tuple(sorted(set(users)))))
