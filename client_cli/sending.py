"""Commands that send: messages, also from a pipe, files, acknowledgements; and new groups."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from client_cli import addressing
from client_cli.asking import must_agree_meanwhile
from client_cli.output import CommandError, Exit, warn
from client_cli.session import settings, with_device
from client_cli.show import message_facts, printable, progress

if TYPE_CHECKING:
    from client.device import Device
    from client.messages import MessageKey
    from client.views import Shown
    from client.words import Content, ConversationId, UserName

app = typer.Typer()


class PriorityWord(StrEnum):
    """Priorities as people type them."""

    INFO = "info"
    ROUTINE = "routine"
    URGENT = "urgent"
    STAT = "stat"


class KindWord(StrEnum):
    """Kinds of conversation that people begin."""

    GROUP = "group"
    ROLE = "role"
    ANNOUNCEMENT = "announcement"
    INCIDENT = "incident"


class Wait(StrEnum):
    """What a sender waits for."""

    SENT = "sent"
    DELIVERED = "delivered"
    READ = "read"
    ACKNOWLEDGED = "acknowledged"
    ARCHIVED = "archived"


@app.command()
def send(
    context: typer.Context,
    to: Annotated[str, typer.Argument(help="A person, a conversation's title, or its number.")],
    text: Annotated[str, typer.Argument(help="What to say; - or nothing reads a pipe.")] = "-",
    *,
    priority: Annotated[PriorityWord, typer.Option("--priority", "-p")] = PriorityWord.ROUTINE,
    ack: Annotated[bool, typer.Option("--ack", help="Ask everybody to acknowledge.")] = False,
    meant: Annotated[
        str, typer.Option("--for", help="Alert a person, or a role's: icu, icu:next, icu:backup.")
    ] = "",
    reply_to: Annotated[str | None, typer.Option("--reply-to", help="The message's name.")] = None,
    wait: Annotated[Wait, typer.Option("--wait", help="End once it has got so far.")] = Wait.SENT,
) -> None:
    """Send a message; the end of the command says that the relay has it on its disk."""
    words = _words(text)
    options = settings(context)

    async def sent(device: Device) -> tuple[Shown, list[str]]:
        from client.words import Priority
        from client_cli import deeds

        known = {one.conversation for one in device.conversations()}
        conversation = await conversation_for(device, to)
        shown = await device.send(
            conversation,
            _content(device, words, reply_to),
            priority=Priority[priority.name],
            target=addressing.target(device, conversation, meant),
            acknowledgement_asked=ack,
        )
        # Without a connection it is kept; another wait for one would be for nothing.
        await device.settled(options.timeout_s if device.status.online else 0)
        key = must_show(shown).key
        await _until(device, key, wait, timeout_s=options.timeout_s)
        done = must_show(device.message(key))
        begun = conversation not in known
        return done, deeds.cautions(device, done, deeds.reading_of(device), begun=begun)

    shown, cautions = with_device(context, sent, must_connect=False)
    options.printer.result(
        {**message_facts(shown), "cautions": cautions},
        f"{addressing.key_text(shown.key)} {progress(shown)}",
    )
    if not options.as_json:
        for caution in cautions:
            warn(caution)


def _words(text: str) -> str:
    """Return what is to be said: the argument, or everything from a pipe."""
    words = text
    if text == "-":
        if sys.stdin.isatty():
            warn("Write your message; Ctrl-D on an empty line sends it.")
        words = sys.stdin.read().rstrip("\n")
    if not words.strip():
        raise CommandError(Exit.USAGE, "nothing_said", "There is nothing to send.")
    return words


def _content(device: Device, words: str, reply_to: str | None) -> Content:
    from client.words import Reference, Reply, Text

    if reply_to is None:
        return Text(text=words)
    key = addressing.message_key(device, reply_to)
    return Reply(to=Reference(sender=key.sender, message_id=key.message_id), text=words)


@app.command("hand-over")
def hand_over(
    context: typer.Context,
    to: Annotated[str, typer.Argument(help="A conversation's title, or its number.")],
    *,
    hours: Annotated[int, typer.Option("--hours", help="How far back; see the policy.")] = 12,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Hand over what was said in the last hours to who came in later; everybody there sees it.

    For a colleague who has lost all devices: what this device has, as far as the policy allows.
    """
    options = settings(context)

    async def handed(device: Device) -> list[Shown]:
        from client import history
        from client.words import InvalidError

        conversation = addressing.conversation(device, to).conversation
        most = device.policy.devices.hand_over_hours
        try:
            found = history.originals(device, conversation, hours=hours)
            text = f"Hand {len(found)} messages of the last {hours} hours to all who are in it?"
            await must_agree_meanwhile(text, yes=yes)
            sent = await history.hand_over(device, conversation, hours=hours)
        except InvalidError:
            text = f"The policy lets members hand over {most or 'no'} hours of a conversation."
            if 1 <= hours <= most:
                text = f"This device has nothing of the last {hours} hours there."
            raise CommandError(Exit.REFUSED, "no_hand_over", text) from None
        await device.settled(options.timeout_s)
        return sent

    sent = with_device(context, handed)
    count = sum(len(getattr(one.content, "originals", ())) for one in sent)
    options.printer.result({"messages": count}, f"Handed over {count} earlier messages.")


async def conversation_for(device: Device, to: str) -> ConversationId:
    """Return the conversation that is meant; a direct one is begun where there is none yet."""
    from client.words import ConversationType

    try:
        return addressing.conversation(device, to).conversation
    except CommandError as error:
        if error.name != "no_conversation":
            raise
    person = await addressing.person(device, to)
    return await device.start(ConversationType.DIRECT, [person])


def must_show(shown: Shown | None) -> Shown:
    """Return what was sent, as the thread shows it.

    Raises:
        CommandError: It is not there.
    """
    if shown is None:
        raise CommandError(Exit.FAULT, "not_shown", "What was sent is not in the thread.")
    return shown


async def _until(device: Device, key: MessageKey, wait: Wait, *, timeout_s: float) -> None:
    """Wait until a message has got as far as is asked.

    Raises:
        CommandError: That took longer.
    """
    try:
        async with asyncio.timeout(timeout_s):
            changes = device.watch()
            while not _has_got(must_show(device.message(key)), wait):
                await anext(changes)
    except TimeoutError:
        text = f"It was sent, but is not {wait.value} by everybody yet. It goes on by itself."
        raise CommandError(Exit.UNDELIVERED, "undelivered", text) from None


def _has_got(shown: Shown, wait: Wait) -> bool:
    from client.messages import PersonState, State

    if wait is Wait.SENT:
        return shown.state is not State.WAITING
    if wait is Wait.ARCHIVED:
        return shown.archived
    wanted = PersonState[wait.name]
    return bool(shown.people) and all(state >= wanted for state, _ in shown.people.values())


@app.command()
def start(
    context: typer.Context,
    title: Annotated[str, typer.Argument(help="What the conversation is called.")],
    people: Annotated[list[str], typer.Argument(help="Who is in it beside you.")],
    *,
    kind: Annotated[KindWord, typer.Option("--kind")] = KindWord.GROUP,
    patient: Annotated[
        str | None, typer.Option("--patient", help="Patient reference; encrypted.")
    ] = None,
) -> None:
    """Begin a conversation with several people."""

    async def begun(device: Device) -> ConversationId:
        from client.words import ConversationType

        users = await addressing.people(device, people)
        made = await device.start(ConversationType[kind.name], users, title=title, patient=patient)
        await device.settled(settings(context).timeout_s)
        return made

    made = with_device(context, begun)
    settings(context).printer.result(
        {"conversation": made.hex(), "short": addressing.short(made)},
        f"{addressing.short(made)} {title}",
    )


@app.command("ack")
def acknowledge(
    context: typer.Context,
    message: Annotated[str, typer.Argument(help="The message, as `wardline read` names it.")],
) -> None:
    """Acknowledge a message, as its sender asked."""
    _with_message(context, message, lambda device, key: device.acknowledge(key), "Acknowledged.")


@app.command()
def recall(
    context: typer.Context,
    message: Annotated[str, typer.Argument(help="The message, as `wardline read` names it.")],
) -> None:
    """Take back a message that nobody has read; the archive keeps the original."""
    _with_message(context, message, lambda device, key: device.recall(key), "Taken back.")


def _with_message(
    context: typer.Context,
    message: str,
    act: Callable[[Device, MessageKey], Awaitable[Any]],
    done: str,
) -> None:
    async def acted(device: Device) -> None:
        await act(device, addressing.message_key(device, message))
        await device.settled(settings(context).timeout_s)

    with_device(context, acted)
    settings(context).printer.result({"message": message, "done": True}, done)


@app.command("add")
def add_members(
    context: typer.Context,
    to: Annotated[str, typer.Argument(help="The conversation.")],
    people: Annotated[list[str], typer.Argument(help="Who comes in.")],
) -> None:
    """Let people into a conversation that you own."""
    _change_members(context, to, add=people)


@app.command("remove")
def remove_members(
    context: typer.Context,
    to: Annotated[str, typer.Argument(help="The conversation.")],
    people: Annotated[list[str], typer.Argument(help="Who goes.")],
) -> None:
    """Remove people from a conversation that you own; they read nothing said later."""
    _change_members(context, to, remove=people)


@app.command("leave")
def leave(
    context: typer.Context,
    to: Annotated[str, typer.Argument(help="The conversation.")],
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Leave a conversation; nothing that is said later reaches you."""
    options = settings(context)

    async def left(device: Device) -> str:
        summary = addressing.conversation(device, to)
        question = f"Leave {printable(summary.title)}? The archive keeps it."
        await must_agree_meanwhile(question, yes=yes or options.as_json)
        await device.leave(summary.conversation)
        return addressing.short(summary.conversation)

    number = with_device(context, left)
    options.printer.result({"left": number}, "You are let out within seconds.")


def _change_members(
    context: typer.Context, to: str, *, add: Iterable[str] = (), remove: Iterable[str] = ()
) -> None:
    async def changed(device: Device) -> tuple[list[UserName], list[UserName]]:
        conversation = addressing.conversation(device, to).conversation
        come = await addressing.people(device, list(add))
        go = await addressing.people(device, list(remove))
        await device.change_members(conversation, add=come, remove=go)
        await device.settled(settings(context).timeout_s)
        return come, go

    come, go = with_device(context, changed)
    settings(context).printer.result(
        {"added": come, "removed": go},
        f"Added: {', '.join(come) or '-'}; removed: {', '.join(go) or '-'}",
    )
