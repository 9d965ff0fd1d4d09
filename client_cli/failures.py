"""Errors of the client as sentences: what happened, and what whoever reads it does next.

Classes are named here, not imported: explaining an error loads nothing, and a command that has
none starts the faster. A test holds the names to the classes that there are.
"""

from __future__ import annotations

import errno
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from client_cli.output import CommandError, Exit

SECOND_MS = 1000


def explained(error: BaseException) -> CommandError | None:
    """Return an error as a sentence with its exit status; None where nobody foresaw it."""
    if isinstance(error, CommandError):
        return error
    for kind in type(error).__mro__:
        make = FAILURES.get(kind.__name__)
        if make is not None:
            return make(error)
    return None


def in_words(error: Exception) -> CommandError:
    """Return any error as a sentence: foreseen, this machine's, or at last the program's fault."""
    return explained(error) or _surroundings(error) or _fault(error)


_FILES = MappingProxyType({errno.ENOENT: Exit.UNKNOWN, errno.EACCES: Exit.FAULT})
"""With what a command ends that cannot use a file, where that is not for its name."""


def _surroundings(error: Exception) -> CommandError | None:
    """Return what is said of a file, a terminal or a number that a command cannot use."""
    if isinstance(error, OSError) and error.filename is not None:
        text = f"{error.filename}: {error.strerror}."
        return CommandError(_FILES.get(error.errno or 0, Exit.USAGE), "file", text)
    if isinstance(error, UnicodeError):
        text = "That is not UTF-8, or this terminal is not: set LANG=C.UTF-8, and try again."
        return CommandError(Exit.USAGE, "not_utf8", text)
    if isinstance(error, OverflowError):
        text = "A number or a date there is larger than any that is meant."
        return CommandError(Exit.USAGE, "too_large", text)
    return None


def _fault(error: Exception) -> CommandError:
    """Say that the program is at fault: class and place alone, for values may be secret."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
    kind = type(error).__name__
    text = f"A fault of the program: {kind} at {place}. Nothing of what you wrote is in this line."
    return CommandError(Exit.FAULT, "fault", text, kind=kind, place=place)


def pause(wait_ms: int) -> str:
    """Return a time to wait in words; nothing where there is none."""
    if wait_ms <= 0:
        return ""
    seconds = -(-wait_ms // SECOND_MS)
    return f" Try again in {seconds} s." if seconds < 100 else f" Try again in {seconds // 60} min."


def _wrong_pin(error: Any) -> CommandError:
    left = error.tries_left
    tries = "" if left is None else f" {left} {'try is' if left == 1 else 'tries are'} left."
    return CommandError(
        Exit.SECRET,
        "wrong_pin",
        f"That is not this device's PIN.{tries}{pause(error.wait_ms)}",
        tries_left=left,
        wait_ms=error.wait_ms,
    )


def _wrong_password(error: Any) -> CommandError:
    text = (
        "Password or one-time code is wrong, or this code was used already: wait for the next."
        f"{pause(error.wait_ms)}"
    )
    return CommandError(Exit.SECRET, "wrong_password", text, wait_ms=error.wait_ms)


def _resting(error: Any) -> CommandError:
    text = f"The relay asks for a pause.{pause(error.wait_ms)}"
    return CommandError(Exit.REFUSED, "resting", text, wait_ms=error.wait_ms)


def _not_said(error: Any) -> CommandError:
    return CommandError(Exit.REFUSED, "not_said", f"That cannot be said here: {error.reason}.")


RIGHTS: Mapping[str, str] = MappingProxyType(
    {
        "SEND": "send messages here",
        "RECEIVE": "receive messages",
        "LOOK_UP": "look people up",
        "ATTACH": "send or open files",
        "COMMAND": "give an administrator's orders",
        "VOUCH": "vouch for emergency access",
        "SAVE": "save files outside of Wardline",
        "VIEW": "read messages",
    }
)
"""What a role may not, by the action of the policy."""


def not_allowed(action: str) -> str:
    """Return in a sentence that the policy does not let this person do something."""
    return f"Your role may not {RIGHTS[action]}. Ask your administrator."


def _not_allowed(error: Any) -> CommandError:
    action = error.action.name
    return CommandError(Exit.REFUSED, "not_allowed", not_allowed(action), right=action.lower())


def _unsent(error: Any) -> CommandError:
    what = "1 message has" if error.unsent == 1 else f"{error.unsent} messages have"
    text = (
        f"{what} not gone out, and would be lost. Nothing was removed; they go out by themselves "
        "once there is a network. To lose them all the same: wardline sign-out --lose-unsent"
    )
    return CommandError(Exit.REFUSED, "unsent", text, unsent=error.unsent)


def _refused(error: Any) -> CommandError:
    code = error.code.name
    exit_, text = REFUSALS.get(code, (Exit.REFUSED, f"The relay does not do it: {code.lower()}."))
    wait = error.detail if code in _WAITS else 0
    return CommandError(exit_, code.lower(), text + pause(wait), wait_ms=wait or None)


def _closed(error: Any) -> CommandError:
    code = error.code.name
    exit_, text = CLOSINGS.get(code, (Exit.UNREACHABLE, "The relay has ended the connection."))
    return CommandError(exit_, code.lower(), text)


def _damaged(error: Any) -> CommandError:
    text = (
        f"This device's {error.where} is damaged; nothing of it is believed. Your messages are in "
        "the archive. Ask an administrator for a new enrolment of this device."
    )
    return CommandError(Exit.FAULT, "damaged", text, where=error.where)


def _failed(error: Any) -> CommandError:
    if not error.full:
        text = "This machine's disk failed. Try again; then look for help."
        return CommandError(Exit.FAULT, "disk_failed", text)
    text = (
        "This machine's disk is full. Nothing is lost: what you did last is here again once there "
        "is room. Make some, then open Wardline anew."
    )
    return CommandError(Exit.FAULT, "disk_full", text)


def _rule(error: Any) -> CommandError:
    text = f"That breaks a rule: {error.rule}."
    return CommandError(Exit.USAGE, "invalid", text, rule=error.rule)


def _fixed(exit_: Exit, name: str, text: str) -> Callable[[Any], CommandError]:
    return lambda _error: CommandError(exit_, name, text)


_WAITS = ("RATE_LIMITED", "FULL", "WRONG_SECRET")

REFUSALS: Mapping[str, tuple[Exit, str]] = MappingProxyType(
    {
        "TAKEN": (Exit.REFUSED, "Somebody has that shift already, or it is not on offer."),
        "PAGE_ENDED": (Exit.REFUSED, "That page has ended: nothing is left to answer."),
        "NO_SUCH": (Exit.UNKNOWN, "The relay knows no such thing, or none that is yours."),
        "FORBIDDEN": (Exit.REFUSED, "Your role does not allow that. An administrator can see why."),
        "RATE_LIMITED": (Exit.REFUSED, "Too often in a short time."),
        "FULL": (Exit.UNREACHABLE, "The relay has no room just now; what you sent is kept here."),
        "INVALID": (Exit.REFUSED, "The relay finds a rule broken by this, and did not take it."),
        "WRONG_SECRET": (
            Exit.SECRET,
            "Password or one-time code is wrong, or this code was used already: wait for the next.",
        ),
        "SHARE_LOCKED": (Exit.SECRET, "Too many wrong PINs. Run: wardline login"),
        "QUOTA": (Exit.REFUSED, "There is no room for this file at the relay."),
        "NO_KEY_PACKAGE": (
            Exit.REFUSED,
            "One of their devices was never online yet. It joins by itself as soon as it is.",
        ),
        "STALE_STATEMENT": (
            Exit.REFUSED,
            "That was already taken in, or signed too long ago. Look first: wardline admin log",
        ),
        "NOT_STRONG": (Exit.SECRET, "This needs your password and a one-time code."),
        "BUSY": (Exit.REFUSED, "Too many things at once; try again in a moment."),
    }
)
"""What the relay's refusals mean to whoever typed the command."""

OUTDATED = (
    "This device was not used for so long that its certificate has ended, and what is on it stays "
    "shut; the archive has all of it. Enrol it anew, under another device name: wardline enroll "
    "--further USER. Another device of yours answers (wardline vouch), or two administrators do. "
    "You are back in your conversations by yourself."
)

RESTORING = (
    "The relay was restored from a backup and serves nobody until it has asked the archive. This "
    "device is in order: try again in some minutes."
)

WIPED = (
    "This device has been wiped by order of the hospital. Nothing of Wardline is left here, and "
    "nothing else on this machine was touched. What was said is in the archive. An administrator "
    "knows why, and how you get a new device: wardline enroll --further USER."
)

CLOSINGS: Mapping[str, tuple[Exit, str]] = MappingProxyType(
    {
        "REVOKED": (
            Exit.WITHHELD,
            "This device has been suspended, revoked or wiped. Call an administrator.",
        ),
        "REPLACED": (
            Exit.BUSY,
            "The same device connected elsewhere. If that was not you, call an administrator.",
        ),
        "VERSION": (Exit.FAULT, "This program is too old for the relay. Update it."),
        "NOT_PROVED": (
            Exit.WITHHELD,
            "The relay does not know this device under these keys. Call an administrator.",
        ),
        "OUTDATED": (
            Exit.WITHHELD,
            OUTDATED,
        ),
        "RECONCILING": (
            Exit.UNREACHABLE,
            RESTORING,
        ),
    }
)
"""What the end of a connection means to whoever typed the command."""

FAILURES: Mapping[str, Callable[[Any], CommandError]] = MappingProxyType(
    {
        "WrongPinError": _wrong_pin,
        "WrongPasswordError": _wrong_password,
        "RestingError": _resting,
        "InvitationError": _fixed(
            Exit.UNKNOWN,
            "invitation",
            "This invitation is mistyped, was used already, or has ended. Ask for another one; if "
            "you did not use it yourself, say so at once.",
        ),
        "NotEnrolledError": _fixed(
            Exit.UNKNOWN,
            "not_enrolled",
            "The enrolment of this device was interrupted. Run wardline enroll again, with the "
            "same invitation and the same PIN.",
        ),
        "OutdatedError": _fixed(
            Exit.WITHHELD,
            "outdated",
            OUTDATED,
        ),
        "ProveFirstError": _fixed(
            Exit.SECRET,
            "prove_first",
            "This device was away for long and now wants your password and a one-time code. Run: "
            "wardline login",
        ),
        "WeakPasswordError": _fixed(
            Exit.SECRET,
            "weak_password",
            "That password is too easy to guess: twelve characters or more, not your name, and "
            "none of the common ones.",
        ),
        "WrongKeyError": _fixed(Exit.SECRET, "wrong_pin", "That is not this device's PIN."),
        "ShareLockedError": _fixed(
            Exit.SECRET,
            "share_locked",
            "Too many wrong PINs: this device now wants your password and a one-time code. Run: "
            "wardline login",
        ),
        "WithheldError": _fixed(
            Exit.WITHHELD,
            "withheld",
            "This device is suspended or wiped, and stays shut. Call an administrator.",
        ),
        "SuspendedError": _fixed(
            Exit.WITHHELD,
            "suspended",
            "This device is suspended. Nothing on it is lost; whoever suspended it, or an "
            "administrator, can restore it.",
        ),
        "WipingError": _fixed(
            Exit.WITHHELD,
            "wiped",
            WIPED,
        ),
        "OfflineError": _fixed(
            Exit.UNREACHABLE,
            "offline",
            "The relay is not reached, and this device may not open without it just now. Check the "
            "network; by telephone the switchboard still works.",
        ),
        "RestoringError": _fixed(
            Exit.UNREACHABLE,
            "restoring",
            RESTORING,
        ),
        "NotConnectedError": _fixed(
            Exit.UNREACHABLE,
            "not_connected",
            "No connection to the relay. As far as this device knows this was NOT done, and it "
            "does not wait here: check the network, then do it again.",
        ),
        "NotOutError": _fixed(
            Exit.UNREACHABLE,
            "not_out",
            "No connection to the relay. What you sent is kept on this device, and goes out by "
            "itself once Wardline runs here with a network. See: wardline status",
        ),
        "ImpostorError": _fixed(
            Exit.UNREACHABLE,
            "impostor",
            "What answers is NOT your hospital's relay. Nothing was sent to it. Use another "
            "network, and tell an administrator.",
        ),
        "UnreachableError": _fixed(
            Exit.UNREACHABLE,
            "unreachable",
            "The relay is not reached. Check the network, then try again.",
        ),
        "ClosedError": _closed,
        "LostError": _fixed(
            Exit.UNREACHABLE, "lost", "The connection broke. Try again; nothing is sent twice."
        ),
        "RefusedError": _refused,
        "UnknownUserError": _fixed(
            Exit.UNKNOWN,
            "unknown_user",
            "One of these people has no device here yet. Look: wardline people NAME",
        ),
        "NotMemberError": _fixed(Exit.UNKNOWN, "not_member", "You are not in that conversation."),
        "ReturningError": _fixed(
            Exit.REFUSED,
            "returning",
            "This device had to begin anew and is being let back into that conversation: seconds, "
            "where the archive is reached. Nothing was sent; send it again then.",
        ),
        "EndedError": _fixed(
            Exit.REFUSED, "ended", "That conversation has ended for you; it can still be read."
        ),
        "ForbiddenError": _fixed(
            Exit.REFUSED, "forbidden", "You may not do that in this conversation."
        ),
        "NotSaidError": _not_said,
        "NotAllowedError": _not_allowed,
        "BarredError": _fixed(
            Exit.REFUSED,
            "barred",
            "The role of one of these people may not receive messages, so nobody can add them. "
            "Ask your administrator.",
        ),
        "KeptInsideError": _fixed(
            Exit.REFUSED,
            "kept_inside",
            "Your organisation keeps files inside Wardline: you may not save this one.",
        ),
        "UnsentError": _unsent,
        "ArchiveMissingError": _fixed(
            Exit.REFUSED,
            "archive_missing",
            "The archive is not in this conversation, so nothing may be sent to it. Begin another "
            "one, and tell an administrator.",
        ),
        "GoneError": _fixed(
            Exit.UNKNOWN,
            "gone",
            "The relay has this attachment no more. Ask for it to be sent again.",
        ),
        "AlteredError": _fixed(
            Exit.REFUSED,
            "altered",
            "What came is not the attachment that the message names; nothing of it was kept. Tell "
            "an administrator.",
        ),
        "TooLargeError": _fixed(
            Exit.REFUSED,
            "too_large",
            "The file is larger than an attachment may be (256 MiB), or the hospital's room for "
            "attachments is used up.",
        ),
        "InUseError": _fixed(
            Exit.BUSY,
            "in_use",
            "Wardline is already open on this device, in another window perhaps. Use that one, or "
            "close it.",
        ),
        "DamagedError": _damaged,
        "NewerVersionError": _fixed(
            Exit.FAULT, "newer", "A newer program wrote this device's store. Update this one."
        ),
        "RolledBackError": _fixed(
            Exit.FAULT,
            "rolled_back",
            "This store is an old copy and sends nothing. Ask an administrator to enrol it anew.",
        ),
        "FullError": _fixed(
            Exit.FAULT,
            "disk_full",
            "This machine's disk is full. Nothing was kept of this command.",
        ),
        "FailedError": _failed,
        "InvalidError": _rule,
        "DecodeError": _fixed(
            Exit.USAGE, "damaged_input", "That text is damaged or incomplete. Copy all of it again."
        ),
        "VerificationError": _fixed(
            Exit.REFUSED,
            "not_verified",
            "A signature is not right. Nothing was done; tell an administrator.",
        ),
    }
)
"""Every error that is foreseen, by its class's name; a subclass without its own has its base's."""
