"""A device's store put through everything that a screen, the relay or a peer may rest on.

``python -m tests.client.crash.driver DIRECTORY ROUNDS``

Prints a line of JSON for whatever leaves the device: a text shown, an entry acknowledged, a sealed
message sent. Whoever kills it compares what left with what is found.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from client.errors import FullError
from client.store import Store
from crypto.mls import Group
from tests.client.ward import KEY, LOG, PATH, WARD, assembled, hear, send
from tests.crypto.mls.clients import saved

T = TypeVar("T")
TRIES = 3
MESSAGES = "messages"
PURGED_MS = 5
"""Every third message of Bob's is this old, and purged at once."""


def tell(what: str, **fields: object) -> None:
    os.write(1, json.dumps({"what": what, **fields}).encode() + b"\n")


def text_of(number: int) -> str:
    return f"message {number}"


def prepare(directory: Path, rounds: int) -> None:
    """Make the store, and all that Bob will send, before anything goes wrong."""
    ann, bob = assembled()
    store = Store.create(directory / PATH, KEY)
    store.began(WARD, ann)
    store.close()
    messages = []
    for number in range(1, rounds + 1):
        bob, message = bob.encrypt(text_of(number).encode())
        messages.append(message.hex())
    (directory / MESSAGES).write_text(json.dumps(messages))
    (directory / "bob").write_text(json.dumps({k: v.hex() for k, v in saved(bob).items()}))


def bob_of(directory: Path) -> Group:
    """Return Bob's group as it was before he read anything."""
    kept = json.loads((directory / "bob").read_text())
    return Group.load({key: bytes.fromhex(value) for key, value in kept.items()})


def insisting(act: Callable[[], T]) -> T:
    """Do something again for a while where the disk has no room, as a device does."""
    for _ in range(TRIES):
        try:
            return act()
        except FullError:
            tell("full")
    return act()


def hand_out(store: Store, relay_last_id: int) -> int:
    """Send what waits; return the relay's new count."""
    for outgoing in store.outbox.to_send(relay_last_id):
        tell("sent", id=outgoing.message_id, sealed=outgoing.sealed.hex())
        relay_last_id = max(relay_last_id, outgoing.message_id)
    return relay_last_id


def main(directory: Path, rounds: int) -> None:
    messages = [bytes.fromhex(text) for text in json.loads((directory / MESSAGES).read_text())]
    store = Store.open(directory / PATH, KEY)
    relay_last_id = 0
    for number in range(1, rounds + 1):
        at_ms = PURGED_MS - 1 if number % 3 == 0 else 2_000
        message = messages[number - 1]
        received = insisting(lambda m=message, n=number, t=at_ms: hear(store, m, n, at_ms=t))  # type: ignore[misc]
        tell("shown", texts=[message.content.text for message in received.messages])
        tell("acknowledged", through=received.through[LOG])
        tell("wrote", id=insisting(lambda n=number: send(store, f"answer {n}")))  # type: ignore[misc]
        relay_last_id = hand_out(store, relay_last_id)
        if number % 2:
            last = relay_last_id
            insisting(lambda i=last: store.accepted({i: 1_000 + i}))  # type: ignore[misc]
            tell("accepted", id=relay_last_id)
        if number % 3 == 0:
            insisting(lambda: store.purge(PURGED_MS))
            tell("purged", number=number)
    store.close()
    tell("closed")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
