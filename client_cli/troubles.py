"""What did not have its effect on this device, in words: what happened, and what heals it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from client.views import Status, Trouble
    from client_cli.rows import Reading
    from client_cli.seat import Seat

_ITSELF = "This device asks to be let in again, by itself."
_TELL = "It had no effect. Tell an administrator."

WORDS: Mapping[str, str] = MappingProxyType(
    {
        "BEFORE_JOINING": "Something from before this device came. It is not for it.",
        "EPOCH_LOST": f"A change of members could not be followed. {_ITSELF}",
        "DAMAGED": "Something came that could not be read, and is not shown. Ask who wrote then.",
        "FORGED": f"Something came in this device's name, and not from it. {_TELL}",
        "KEY_USED": "Something came a second time. It was shown once.",
        "UNLAWFUL": f"A change of members came from somebody who may not make it. {_TELL}",
        "UNSIGNED": f"A word of the archive came without a right signature. {_TELL}",
        "FORKED": f"The relay gave this device another change of members. {_ITSELF}",
        "WELCOME_LOST": f"This device was let in, and what it needs never came. {_ITSELF}",
        "HOLE": "Something that was sent never came. Ask who wrote then to say it again.",
        "SPLIT_VIEW": "The relay shows two different archives. Tell an administrator NOW.",
        "REVOKED": "Something came from a device that was no longer valid. It is not shown.",
        "NOT_AGAIN": "Words of yours were lost, and not sent again: somebody has come in since."
        " Say them again if all may read them.",
        "WITHHELD": f"The relay kept something back, and no policy says so. {_TELL}",
        "UNTOLD": "A change rests on what never came here. This device asks again, by itself.",
    }
)
"""By the name of the cause; a test holds them to the causes that there are."""


def facts(trouble: Trouble) -> dict[str, Any]:
    """Return one as programs read it."""
    return {
        "conversation": trouble.log.hex(),
        "cause": trouble.cause.lower(),
        "at_ms": trouble.at_ms,
        "text": WORDS[trouble.cause],
    }


def lines(status: Status, seat: Seat, reading: Reading) -> list[str]:
    """Return what people read of the faults: when, where, what, and what heals it."""
    found = [
        f"{reading.when(one.at_ms)} {_where(one, seat)}: {WORDS[one.cause]}"
        for one in status.troubles
    ]
    more = status.faults - len(found)
    return [*found, *([f"and {more} before these"] if more > 0 else [])]


def _where(trouble: Trouble, seat: Seat) -> str:
    titles = {one.conversation: one.title for one in seat.conversations()}
    title = next((name for where, name in titles.items() if where == trouble.log), "")
    return title or "outside conversations"
