"""Where no device answers: a word, without content, by another way than the relay's own.

One small port, ``SecondChannel``, and two ways behind it: a command that the hospital writes (an
SMS gateway, a pager terminal, a telephone system), and mail. It says how urgent a page is and for
which role, and nothing else; who a person is to that way stands in one file of the operator's.
"""

from __future__ import annotations

import asyncio
import smtplib
import ssl
import tomllib
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from email.message import EmailMessage
from enum import IntEnum
from pathlib import Path
from typing import Protocol

import msgspec

from protocol.authenticated_data import Priority
from protocol.identifiers import RoleName, UserName
from server import events
from server.configuration import ConfigurationError, SecondChannelSettings, resolve

COMMAND_S = 20.0
"""Seconds for which a command may run: a gateway that hangs is ended, and that is told."""
SMTP_S = 15.0
"""Seconds for each answer of the mail server."""
AT_ONCE = 16
"""Calls under way at a time; the others wait their turn."""


class Word(IntEnum):
    """What it says: that a page of a priority waits, or that something is wrong with on call."""

    INFO = Priority.INFO
    ROUTINE = Priority.ROUTINE
    URGENT = Priority.URGENT
    STAT = Priority.STAT
    UNREACHABLE = 16
    GAP = 17


_TEXTS = {
    Word.INFO: "page waiting for role {role}",
    Word.ROUTINE: "page waiting for role {role}",
    Word.URGENT: "URGENT waiting for role {role}",
    Word.STAT: "STAT waiting for role {role}",
    Word.UNREACHABLE: "on call for role {role}: no device can be woken",
    Word.GAP: "nobody is on call for role {role}",
}


class SecondChannel(Protocol):
    """Says to a person that a page waits, or that they would not be reached."""

    async def say(self, user: UserName, what: Word, role: RoleName) -> None:
        """Say it; a failure is told to the operator, never raised."""


class Contact(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a person is reached without the program.

    Attributes:
        number: A telephone or pager number, given to the command.
        mail: A mail address.
    """

    number: str = ""
    mail: str = ""


def contacts(path: Path) -> Mapping[str, Contact]:
    """Return everybody's contact in a TOML file: a table for each user name.

    Raises:
        ConfigurationError: It cannot be read, or has an unknown key.
    """
    try:
        return msgspec.convert(tomllib.loads(path.read_text()), dict[str, Contact])
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: {error}") from None


def text(what: Word, role: RoleName) -> str:
    """Return all that the second channel ever says."""
    return f"Wardline: {_TEXTS[what].format(role=role)}"


@dataclass(slots=True, repr=False)
class Ways:
    """The ways that are configured; each is tried for whoever has a number or an address.

    Attributes:
        settings: The configuration.
        people: The file of contacts, read again when it has changed.
    """

    settings: SecondChannelSettings
    people: Path
    _known: Mapping[str, Contact]
    _read_ns: int
    _turn: asyncio.Semaphore

    @classmethod
    def open(cls, settings: SecondChannelSettings, *, configuration_file: Path) -> Ways:
        """Return the ways of a configuration.

        Raises:
            ConfigurationError: The file of contacts cannot be used.
        """
        people = resolve(configuration_file, settings.people)
        return cls(
            settings=settings,
            people=people,
            _known=contacts(people),
            _read_ns=people.stat().st_mtime_ns,
            _turn=asyncio.Semaphore(AT_ONCE),
        )

    @property
    def count(self) -> int:
        """For how many people a contact is known."""
        return len(self._known)

    async def say(self, user: UserName, what: Word, role: RoleName) -> None:
        """Say it to a person, by every way there is to them."""
        contact = self._contacts().get(user)
        if contact is None:
            events.warn("second_channel", error="no_contact")
            return
        async with self._turn:
            if contact.number and self.settings.command:
                await self._told(self._run(contact.number, what, role))
            if contact.mail and self.settings.smtp_host:
                await self._told(asyncio.to_thread(self._mail, contact.mail, what, role))

    def _contacts(self) -> Mapping[str, Contact]:
        """Return the contacts; a file that is broken now leaves the last good ones."""
        try:
            changed_ns = self.people.stat().st_mtime_ns
            if changed_ns != self._read_ns:
                self._known, self._read_ns = contacts(self.people), changed_ns
        except (OSError, ConfigurationError):
            events.warn("second_channel", error="contacts")
        return self._known

    async def _told(self, work: Awaitable[None]) -> None:
        try:
            await work
        except (OSError, smtplib.SMTPException, TimeoutError, CallFailedError) as error:
            events.warn("second_channel", error=type(error).__name__)

    async def _run(self, number: str, what: Word, role: RoleName) -> None:
        """Run the command with number, word, role and the text as its last arguments.

        No shell sees them; a number that begins with a dash is no option, it follows ``--``.
        """
        process = await asyncio.create_subprocess_exec(
            *self.settings.command,
            "--",
            number,
            what.name.lower(),
            role,
            text(what, role),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(COMMAND_S):
                status = await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise
        if status:
            raise CallFailedError

    def _mail(self, address: str, what: Word, role: RoleName) -> None:
        settings = self.settings
        message = EmailMessage()
        message["From"], message["To"] = settings.mail_from, address
        message["Subject"] = _TEXTS[what].format(role=role)
        message.set_content(text(what, role))
        with smtplib.SMTP(settings.smtp_host, settings.smtp_port, timeout=SMTP_S) as server:
            if settings.smtp_tls:
                server.starttls(context=ssl.create_default_context())
            server.send_message(message)


class CallFailedError(Exception):
    """The command said that it could not do it."""
