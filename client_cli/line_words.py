"""The line mode's commands as people type them: words in, the same fields as JSON has out."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from client_cli.output import CommandError, Exit


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How a command is typed.

    Attributes:
        fields: In their order; the last takes the rest of the line.
        optional: How many of the last may be left out.
        what: What it does, for ``help``.
    """

    fields: tuple[str, ...] = ()
    optional: int = 0
    what: str


COMMANDS: Mapping[str, Form] = MappingProxyType(
    {
        "accept": Form(fields=("page",), optional=1, what="accept the most urgent page"),
        "acknowledge": Form(fields=("message",), what="acknowledge a message"),
        "add": Form(fields=("in", "users"), what="let people into a conversation"),
        "answer": Form(fields=("with", "to"), optional=1, what="accept, decline, not-mine, done"),
        "ask-access": Form(fields=("users", "about", "reason"), what="ask for emergency access"),
        "attach": Form(fields=("to", "path"), what="send a file"),
        "board": Form(what="who is on call"),
        "decline": Form(fields=("page",), optional=1, what="decline the most urgent page"),
        "details": Form(fields=("message",), what="who has read a message, and when"),
        "devices": Form(what="this person's devices"),
        "directory": Form(fields=("text",), optional=1, what="people, by name, role or ward"),
        "do": Form(fields=("message", "act", "text"), optional=2, what="do what a message asks"),
        "done": Form(fields=("page",), optional=1, what="the accepted page is done"),
        "end-access": Form(fields=("in", "user"), optional=1, what="end emergency access now"),
        "edit": Form(fields=("message", "text"), what="change an own message"),
        "help": Form(what="these commands"),
        "leave": Form(fields=("in",), what="leave a conversation"),
        "list": Form(what="conversations"),
        "lock": Form(what="lock, and end"),
        "members": Form(fields=("in",), what="who is in a conversation"),
        "moderators": Form(fields=("in", "users"), optional=1, what="who may mute in a group"),
        "mute": Form(fields=("in", "user"), optional=1, what="no sound, or nothing of somebody"),
        "new": Form(fields=("in", "what", "fields"), optional=1, what="a task, a result ..."),
        "not-mine": Form(fields=("to",), optional=1, what="the page is somebody else's"),
        "page": Form(fields=("role", "text"), what="page whoever is on call for a role"),
        "pages": Form(what="pages, and how they go"),
        "quit": Form(what="end"),
        "react": Form(fields=("message", "mark"), what="put a sign beside a message"),
        "read": Form(fields=("in",), what="mark a conversation as read"),
        "remove": Form(fields=("in", "users"), what="let people go from a conversation"),
        "reply": Form(fields=("message", "text"), what="answer a message"),
        "retract": Form(fields=("message",), what="take an unread message back"),
        "save": Form(fields=("message", "path"), what="save the file of a message"),
        "search": Form(fields=("text",), what="find messages"),
        "send": Form(fields=("to", "text"), what="send to a conversation or a person"),
        "show": Form(fields=("in", "limit"), optional=1, what="read a conversation"),
        "start": Form(fields=("users", "title"), optional=1, what="begin a conversation"),
        "status": Form(what="how this device stands"),
        "vouch": Form(fields=("in", "user", "reason"), optional=1, what="for emergency access"),
        "wait": Form(fields=("for", "text"), optional=1, what="wait for something"),
    }
)
"""Every command; options stand before its fields as ``--priority stat``."""

WHOLE: Mapping[str, tuple[type, ...]] = MappingProxyType(
    {
        **dict.fromkeys(
            (
                *("about", "do", "for", "in", "kind", "mark", "message", "page", "path", "patient"),
                *("reason", "role", "text", "title", "to", "what", "with"),
            ),
            (str,),
        ),
        "fields": (dict, list),
        "id": (object,),
        "user": (str, list),
        "users": (str, list),
    }
)
"""Which JSON a field is where it is not any one word or number."""

NOTHING = {
    "conversations": "No conversation.",
    "messages": "No message.",
    "people": "Nobody like that.",
    "roles": "There is no role.",
    "devices": "No device.",
    "pages": "There is no page.",
}
"""What is said of an empty list, by its key."""


def parsed(line: str, *, as_json: bool) -> dict[str, Any]:
    """Return a command's fields; ``do`` is its name.

    Raises:
        CommandError: The line is none.
    """
    command = _json(line) if as_json else _words(line)
    name = str(command.get("do"))
    form = COMMANDS.get(name)
    if form is None:
        raise _wrong(f"There is no command {name!r}. Try: help")
    needed = form.fields[: len(form.fields) - form.optional]
    if any(field not in command for field in needed):
        raise _wrong(f"Like this: {usage(name)}")
    return command


def _json(line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError:
        raise _wrong("That line is no JSON.") from None
    if not isinstance(value, dict):
        raise _wrong("A command is a JSON object.")
    for name, given in value.items():
        wanted = WHOLE.get(name, (str, int, float, bool))
        if not isinstance(given, wanted) and given is not None:
            raise _wrong(f"{name} is no such value.")
    return {name: given for name, given in value.items() if given is not None}


def _words(line: str) -> dict[str, Any]:
    try:
        name, *words = shlex.split(line)
    except ValueError:
        raise _wrong("A quotation mark is missing.") from None
    command: dict[str, Any] = {"do": name}
    while words and words[0].startswith("--"):
        option, *words = words
        if not words:
            raise _wrong(f"{option} needs a value.")
        command[option.removeprefix("--")] = words.pop(0)
    form = COMMANDS.get(name)
    if form is None:
        return command
    for field in form.fields[:-1]:
        if words:
            command[field] = words.pop(0)
    if words and form.fields:
        # Fields are words of the form name=value, each of which may hold spaces.
        last = form.fields[-1]
        command[last] = words if last == "fields" else " ".join(words)
    return command


def usage(name: str) -> str:
    """Return how a command is typed."""
    form = COMMANDS[name]
    needed = len(form.fields) - form.optional
    shown = [
        f"<{field}>" if index < needed else f"[{field}]" for index, field in enumerate(form.fields)
    ]
    return " ".join([name, *shown])


def _wrong(text: str) -> CommandError:
    return CommandError(Exit.USAGE, "usage", text)
