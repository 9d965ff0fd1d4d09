"""What a program found when it checked itself: one text, the same for every program, to be signed.

The text is that of a signed note, so that whoever has the program's key can show later what was
found and when. It says what holds, never whose or what anything is: no name of a person, device or
conversation, and no key that is secret.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from crypto.errors import DecodeError, InvalidError
from crypto.note import Note, SignerKey, VerifierKey, is_note_text, sign_note, verify_note

HEADING = "Wardline check, version 1"
_HOLDS = {"ok": True, "WRONG": False}
_WORDS = {holds: word for word, holds in _HOLDS.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: What; one line without a colon.
        holds: Whether it is as it should be.
        found: What was found, in words; one line.
    """

    name: str
    holds: bool
    found: str

    def __post_init__(self) -> None:
        if not self.name or ":" in self.name or not is_note_text(f"{self.line}\n".encode()):
            raise InvalidError("a check is one line, and its name has no colon")
        if "\n" in self.line or not self.found:
            raise InvalidError("a check is one line, and says what was found")

    @property
    def line(self) -> str:
        """The check as it stands in a report."""
        return f"{_WORDS[self.holds]} {self.name}: {self.found}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What one run found.

    Attributes:
        program: Which program, as it is called.
        at_ms: When, in ms since the epoch, by the clock of the machine that was checked.
        checks: What was looked at, in order.
    """

    program: str
    at_ms: int
    checks: tuple[Check, ...]

    def __post_init__(self) -> None:
        if not self.program or "\n" in self.program or self.at_ms < 0 or not self.checks:
            raise InvalidError("a report names its program and time, and has checks")

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that do not hold."""
        return tuple(check for check in self.checks if not check.holds)

    def encode(self) -> bytes:
        """Return the text, which is what is signed."""
        lines = (HEADING, self.program, str(self.at_ms), *(check.line for check in self.checks))
        return "".join(f"{line}\n" for line in lines).encode()

    def sign(self, key: SignerKey) -> Note:
        """Return the report as a note, signed by the program's own key."""
        return sign_note(self.encode(), key)


def decode_report(text: bytes) -> Report:
    """Return the report of a note's text.

    Raises:
        DecodeError: It is none.
    """
    try:
        heading, program, at_ms, *lines = text.decode().split("\n")
        report = Report(program=program, at_ms=int(at_ms), checks=tuple(_checks(lines)))
    except (ValueError, InvalidError):
        raise DecodeError("Report", 0) from None
    if heading != HEADING or report.encode() != text:
        raise DecodeError("Report", 0)
    return report


def verify_report(note: Note, key: VerifierKey) -> Report:
    """Return the report that ``key`` signed.

    Raises:
        VerificationError: It did not.
        DecodeError: The note is no report.
    """
    verify_note(note, key)
    return decode_report(note.text)


def _checks(lines: list[str]) -> Iterable[Check]:
    for line in lines[:-1]:
        word, _, rest = line.partition(" ")
        name, _, found = rest.partition(": ")
        if word not in _HOLDS:
            raise DecodeError("Report", 0)
        yield Check(name=name, holds=_HOLDS[word], found=found)
