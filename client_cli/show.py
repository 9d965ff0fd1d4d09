"""Values of the client as rows and lines."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from client_cli.addressing import key_text, short

if TYPE_CHECKING:
    from client.views import Shown, Summary

UNPRINTABLE = "\N{REPLACEMENT CHARACTER}"


def printable(text: str) -> str:
    """Return a text of somebody else's without what could command a terminal.

    Line feeds and tabs stay; every other character that does not print is replaced.
    """
    return "".join(char if char.isprintable() or char in "\n\t" else UNPRINTABLE for char in text)


def date(at_ms: int | None) -> str:
    """Return an instant in this machine's zone, to the minute; a dash where there is none."""
    if at_ms is None:
        return "-"
    return datetime.fromtimestamp(at_ms / 1000, UTC).astimezone().strftime("%Y-%m-%d %H:%M")


def clock(at_ms: int) -> str:
    """Return the time of day in this machine's zone."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).astimezone().strftime("%H:%M")


def behind(lag_ms: int) -> str:
    """Return how far the archive's proofs are behind what this device sent, in words."""
    if not lag_ms:
        return "has proved all that this device sent"
    seconds = lag_ms // 1000
    words = f"{seconds} s" if seconds < 120 else f"{seconds // 60} min"
    return f"has not proved yet what was sent {words} ago"


def yes_or_no(value: object) -> str:
    """Return ``yes`` or ``no``."""
    return "yes" if value else "no"


def message_facts(shown: Shown) -> dict[str, Any]:
    """Return a message as programs read it."""
    return {
        "key": key_text(shown.key),
        "conversation": shown.key.conversation.hex(),
        "sender": shown.sender,
        "at_ms": shown.at_ms,
        "priority": shown.priority.name.lower(),
        "text": shown.text,
        "state": shown.state.name.lower(),
        "acknowledgement_asked": shown.acknowledgement_asked,
        "archived": shown.archived,
        "edited": shown.edited,
        "own": shown.own,
        "people": {
            user: {"state": state.name.lower(), "at_ms": at_ms}
            for user, (state, at_ms) in shown.people.items()
        },
    }


def said(shown: Shown) -> str:
    """Return the words of a message, with the times that its words alone leave out."""
    from client.words import EmergencyVouch

    text = printable(shown.text)
    if isinstance(shown.content, EmergencyVouch):
        return f"{text} (until {date(shown.content.until_ms)})"
    return text


def message_line(shown: Shown) -> str:
    """Return a message as a line: when, how urgent, who, what; and how far an own one got."""
    marks = [shown.priority.name] if shown.priority.name in ("URGENT", "STAT") else []
    if shown.state.name != "STORED":
        marks.append(shown.state.name.lower())
    if shown.edited:
        marks.append("edited")
    if shown.acknowledgement_asked:
        marks.append("please acknowledge")
    note = f" [{', '.join(marks)}]" if marks else ""
    sender = f" {shown.sender}" if shown.sender else ""
    head = f"{date(shown.at_ms)}{sender}{note}: {said(shown)}"
    return f"{head}\n    {progress(shown)}  {key_text(shown.key)}"


def progress(shown: Shown) -> str:
    """Return how far a message got, in words."""
    if not shown.own:
        return ""
    counts: dict[str, int] = {}
    for state, _ in shown.people.values():
        counts[state.name.lower()] = counts.get(state.name.lower(), 0) + 1
    people = ", ".join(f"{word} {count}" for word, count in counts.items()) or "sent"
    return f"{people}, {'archived' if shown.archived else 'not yet archived'}"


def summary_facts(summary: Summary) -> dict[str, Any]:
    """Return a conversation as programs read it."""
    return {
        "id": summary.conversation.hex(),
        "short": short(summary.conversation),
        "kind": summary.kind.name.lower(),
        "title": summary.title,
        "patient": summary.patient,
        "unread": summary.unread,
        "top_priority": summary.top_priority.name.lower() if summary.top_priority else None,
        "held": summary.held,
        "released": summary.released,
        "people": summary.people,
        "muted": summary.muted,
        "ended": summary.ended,
        "opening": summary.opening,
        "last": message_facts(summary.last) if summary.last else None,
    }
