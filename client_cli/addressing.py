"""From what people type to what is meant: conversations, messages and people."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from client_cli.output import CommandError, Exit

if TYPE_CHECKING:
    from client.device import Device
    from client.messages import MessageKey
    from client.views import Summary
    from client.words import ConversationId, Target, UserName

USER_NAME = re.compile(r"[a-z0-9._-]{1,64}", re.ASCII)

PREFIX_CHARACTERS = 8
"""Hexadecimal digits of a conversation's id that commands print: enough to tell a ward's apart."""

WHOLE_CHARACTERS = 64
"""Hexadecimal digits of a whole id."""

SUGGESTIONS = 3
"""Names that are suggested for one that nobody has."""


def short(conversation: ConversationId) -> str:
    """Return how commands print a conversation's id."""
    return conversation.hex()[:PREFIX_CHARACTERS]


def key_text(key: MessageKey) -> str:
    """Return how commands print which message is meant; ``message_key`` reads it."""
    return f"{short(key.conversation)}:{key.sender}:{key.message_id}"


def conversation(device: Device, typed: str) -> Summary:
    """Return the conversation that is meant: by its title, the beginning of its id, or a person.

    Raises:
        CommandError: There is none, or more than one.
    """
    everything = device.conversations()
    found = (
        [one for one in everything if one.title.casefold() == typed.casefold() and not one.ended]
        or [one for one in everything if _is_prefix(typed, one.conversation)]
        or [one for one in everything if one.peer == typed and not one.ended]
        # What has ended can still be read, and whoever writes there is told that it has.
        or [one for one in everything if one.title.casefold() == typed.casefold()]
    )
    # Of several with one person, which two who begin at once make, the newest is meant.
    if len(found) == 1 or (found and len({one.peer or one.conversation for one in found}) == 1):
        return found[0]
    if found:
        ids = ", ".join(short(one.conversation) for one in found)
        text = f"More than one conversation is called that. Take its number: {ids}"
        raise CommandError(Exit.UNKNOWN, "ambiguous_conversation", text)
    if any(one.user == typed for one in device.directory()):
        text = f"You have no conversation with {typed} yet: wardline send {typed} begins one."
        raise CommandError(Exit.UNKNOWN, "no_conversation", text)
    text = f"There is no conversation or person called {typed!r}.{suggestion(device, typed)}"
    raise CommandError(Exit.UNKNOWN, "no_conversation", text)


def conversation_id(device: Device, typed: str) -> ConversationId:
    """Return the id of a conversation, also of one that this device is not in: its whole number.

    Raises:
        CommandError: It is neither such a number nor a conversation here.
    """
    from client.words import ConversationId

    if len(typed) == WHOLE_CHARACTERS and set(typed) <= set("0123456789abcdef"):
        return ConversationId(bytes.fromhex(typed))
    try:
        return conversation(device, typed).conversation
    except CommandError as error:
        text = (
            f"{error} For a conversation that this device is not in give its whole number,"
            f" {WHOLE_CHARACTERS} characters: one of its members has it from"
            " `wardline --json conversations`."
        )
        raise CommandError(error.exit, error.name, text) from None


async def person(device: Device, typed: str) -> UserName:
    """Return the user whose name this is, or the only one with that display name.

    Who is not in this device's directory yet is looked up.

    Raises:
        CommandError: There is none, or more than one.
        NotConnectedError: The relay had to be asked, and is not there.
    """
    everybody = device.directory()
    found = [one for one in everybody if one.user == typed] or [
        one for one in everybody if one.name.casefold() == typed.casefold()
    ]
    if len(found) == 1:
        return found[0].user
    if not found and USER_NAME.fullmatch(typed):
        from client.words import UserName

        await device.look_up([UserName(typed)])
        if device.devices(UserName(typed)):
            return UserName(typed)
    if found:
        names = ", ".join(one.user for one in found)
        text = f"Several people are called {typed!r}. Take the user name: {names}"
        raise CommandError(Exit.UNKNOWN, "ambiguous_person", text)
    text = f"Nobody here is called {typed!r}.{suggestion(device, typed)}"
    raise CommandError(Exit.UNKNOWN, "no_person", text)


async def people(device: Device, typed: Sequence[str]) -> list[UserName]:
    """Return the user names of everybody who is named.

    Raises:
        CommandError: One of them is nobody, or more than one.
        NotConnectedError: The relay had to be asked, and is not there.
    """
    return [await person(device, name) for name in typed]


NO_DEVICE = "{}: NO DEVICE, and so not reached by Wardline. Call them by telephone."
"""What is said of people whom no message and no page reaches."""


async def without_device(device: Device, users: Sequence[UserName]) -> list[UserName]:
    """Return who of some people has no device that counts, as far as this device can tell."""
    from client.errors import NotConnectedError, RefusedError

    # What was done before is done, whether this is answered or not.
    with suppress(NotConnectedError, RefusedError):
        await device.look_up(users)
    return [user for user in users if not any(not known.revoked for known in device.devices(user))]


def target(device: Device, conversation: ConversationId, typed: str) -> Target:
    """Return for whom a message is meant; everybody in the conversation where nothing is typed.

    Raises:
        CommandError: That is no role or person, or none of those meant is in the conversation.
    """
    from client import targets
    from client.words import EVERYBODY

    if not typed:
        return EVERYBODY
    members = {member.user for member in device.members(conversation)}
    roles = [view.role for view in device.duty.board()]
    found = targets.target(typed, roles=roles, users=members)
    if found is None:
        text = f"Nobody in that conversation is called {typed!r}, and no role is."
        raise CommandError(Exit.UNKNOWN, "no_target", text)
    meant = device.duty.meant(found) or ()
    if members.isdisjoint(meant):
        text = f"{', '.join(meant)} would not see it there. wardline duty page reaches a role."
        raise CommandError(Exit.UNKNOWN, "not_there", text)
    return found


def message_key(device: Device, typed: str) -> MessageKey:
    """Return which message ``conversation:device:number`` means.

    Raises:
        CommandError: It is not of that form, or there is no such message.
    """
    from client.messages import MessageKey
    from client.words import DeviceId

    prefix, _, rest = typed.partition(":")
    sender, _, number = rest.rpartition(":")
    if prefix and sender and number.isdecimal():
        for one in device.conversations():
            key = MessageKey(
                conversation=one.conversation, sender=DeviceId(sender), message_id=int(number)
            )
            if _is_prefix(prefix, one.conversation) and device.message(key) is not None:
                return key
    text = f"There is no message {typed!r}. Messages are named as `wardline read` prints them."
    raise CommandError(Exit.UNKNOWN, "no_message", text)


def suggestion(device: Device, typed: str) -> str:
    """Return the names that are most like one that nobody has, as a sentence."""
    like = device.directory(typed)[:SUGGESTIONS]
    names = ", ".join(f"{one.user} ({one.name})" for one in like)
    return f" Did you mean {names}?" if names else ""


def _is_prefix(typed: str, conversation_id: ConversationId) -> bool:
    return len(typed) >= PREFIX_CHARACTERS and conversation_id.hex().startswith(typed.casefold())
