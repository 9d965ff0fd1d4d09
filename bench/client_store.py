"""A device's store with 100,000 messages: opening, searching, catching up, forgetting.

Run: ``make bench-client``; prints one JSON object a line (see ``bench.report``). What has a bound
is CPU time of the one process, so that it holds on a busy machine too; what waits for the disk is
told in elapsed time.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median

from bench.report import Figure, report
from client.messages import Content, MessageKey, NewMessage
from client.store import Draft, Entry, Sealed, Store
from crypto.mls import (
    Add,
    ApplicationMessage,
    Capabilities,
    Credential,
    Group,
    KeyPackageSecrets,
    LeafContent,
)
from crypto.mls.cipher_suite import X25519_CHACHA20POLY1305_SHA256_ED25519 as SUITE
from crypto.mls.leaf_node import LeafNode
from crypto.pin import PinParameters, stretch
from protocol.identifiers import ConversationId, DeviceId, conversation_log

MESSAGES = 100_000
CONVERSATIONS = 50
CATCH_UP = 3_000
BATCH = 100
"""Messages in one transaction while catching up: at 2,000 a second, a screen moves 20 times."""

KEY = bytes(32)
ANN, BOB = DeviceId("ann/phone"), DeviceId("bob/phone")
STEMS = (
    *("bed", "scan", "dose", "ward", "fever", "pain", "line"),
    *("blood", "chest", "renal", "sepsis", "transfer", "theatre", "family"),
)


def accept(leaf: LeafNode, replaced: LeafNode | None) -> None:
    """Find every credential good."""


def package(name: bytes) -> KeyPackageSecrets:
    content = LeafContent(
        credential=Credential.basic(name), capabilities=Capabilities.of(SUITE, credentials=(1,))
    )
    return KeyPackageSecrets.generate(
        SUITE,
        content,
        signer=SUITE.signature.generate(),
        not_before_s=0,
        not_after_s=1 << 40,
    )


def pair(conversation: ConversationId) -> tuple[Group, Group]:
    """Return the groups of Ann and Bob."""
    own = package(b"bob")
    _, staged = Group.create(package(b"ann"), group_id=conversation).commit(
        [Add(own.key_package)], authenticate=accept
    )
    assert staged.group is not None
    assert staged.welcome is not None
    return staged.group, Group.join(staged.welcome, own, authenticate=accept)


def sentence(source: random.Random) -> str:
    """Return ten words, some frequent and some rare, as in talk."""
    common = source.choices(STEMS, k=8)
    rare = [f"{source.choice(STEMS)}{source.randrange(20_000)}" for _ in range(2)]
    return " ".join(common + rare)


def new(conversation: ConversationId, number: int, text: str) -> NewMessage:
    key = MessageKey(conversation=conversation, sender=BOB, message_id=number)
    content = Content(kind=1, data=text.encode(), text=text)
    return NewMessage(key=key, at_ms=number, content=content)


def fill(store: Store) -> None:
    """Keep ``MESSAGES``, evenly over the conversations."""
    source = random.Random(1)
    each = MESSAGES // CONVERSATIONS
    for index in range(CONVERSATIONS):
        conversation = ConversationId(index.to_bytes(32, "big"))
        group, _ = pair(conversation)
        store.began(conversation, group)
        entries = [
            Entry(
                log=conversation_log(conversation),
                sequence=number,
                conversation=conversation,
                before=group,
                after=group,
                effects=(new(conversation, number, sentence(source)),),
            )
            for number in range(1, each + 1)
        ]
        store.received(entries)


def cpu_ms(act: Callable[[], object]) -> float:
    start = time.process_time()
    act()
    return (time.process_time() - start) * 1e3


def elapsed_ms(act: Callable[[], object]) -> float:
    start = time.perf_counter()
    act()
    return (time.perf_counter() - start) * 1e3


def opening(path: Path) -> Iterator[Figure]:
    """Open, and read what a first screen shows: each conversation's last line, one's last page."""

    def screen() -> None:
        store = Store.open(path, KEY)
        for conversation in store.groups.conversations():
            store.messages.page(conversation, limit=1)
        store.messages.page(conversation, limit=50)
        store.close()

    yield Figure(
        name="open to first screen",
        value=median(cpu_ms(screen) for _ in range(5)),
        unit="CPU ms, median of 5",
        wanted=500,
    )
    parameters = PinParameters.fresh()
    yield Figure(
        name="stretch the PIN",
        value=median(cpu_ms(lambda: stretch("481516", parameters)) for _ in range(3)),
        unit="CPU ms, median of 3",
        wanted=400,
    )


def searching(store: Store) -> Iterator[Figure]:
    source = random.Random(2)
    queries = {
        "search a frequent word": ["dose", "bed", "fever"],
        "search a rare word": [f"{source.choice(STEMS)}{n}" for n in range(7, 19_000, 900)],
        "search two letters": ["be", "do", "s"],
        "search three words": ["bed scan dose", "fever pain sepsis", "ward bed17 chest"],
        "search what is not there": ["bed nowhere", "zzz"],
    }
    for name, typed in queries.items():
        times = [cpu_ms(partial(store.messages.search, text)) for text in typed * 5]
        yield Figure(name=name, value=max(times), unit=f"CPU ms, worst of {len(times)}", wanted=50)

    oldest = ConversationId(bytes(32))
    times = [
        cpu_ms(partial(store.messages.search, text, conversation=oldest))
        for text in ["dose", "bed scan", "sepsis pain"] * 5
    ]
    yield Figure(
        name="search one conversation", value=max(times), unit="CPU ms, worst of 15", wanted=50
    )


def catching_up(store: Store) -> Iterator[Figure]:
    conversation = ConversationId(b"c" * 32)
    ann, bob = pair(conversation)
    store.began(conversation, ann)
    sealed = []
    for number in range(CATCH_UP):
        bob, message = bob.encrypt(f"number {number} of the night".encode())
        sealed.append(message)
    opened = kept = 0.0
    for first in range(0, CATCH_UP, BATCH):
        start = time.process_time()
        entries = read(store, conversation, sealed[first : first + BATCH], first + 1)
        middle = time.process_time()
        store.received(entries)
        opened += middle - start
        kept += time.process_time() - middle
    yield Figure(
        name="catch up: keep messages",
        value=CATCH_UP / kept,
        unit=f"messages per CPU second, {BATCH} a transaction",
        wanted=2_000,
        at_least=True,
    )
    yield Figure(
        name="catch up: decrypt and keep messages",
        value=CATCH_UP / (opened + kept),
        unit=f"messages per CPU second, {BATCH} a transaction",
    )
    yield from single(store, conversation)


def read(
    store: Store, conversation: ConversationId, sealed: list[bytes], first: int
) -> list[Entry]:
    """Return the entries of a batch, decrypted."""
    entries = []
    group = store.groups.get(conversation)
    assert group is not None
    for number, message in enumerate(sealed, first):
        before = group
        group, received = group.process(message, authenticate=accept)
        assert isinstance(received, ApplicationMessage)
        entries.append(
            Entry(
                log=conversation_log(conversation),
                sequence=number,
                conversation=conversation,
                before=before,
                after=group,
                effects=(new(conversation, number, received.data.decode()),),
            )
        )
    return entries


def single(store: Store, conversation: ConversationId) -> Iterator[Figure]:
    """One message at a time: each is synced on its own."""

    def send() -> None:
        before = store.groups.get(conversation)
        assert before is not None

        def seal(message_id: int, previous_id: int) -> Sealed:
            group, message = before.encrypt(b"%d %d" % (message_id, previous_id))
            return Sealed(group=group, message=message)

        content = Content(kind=1, data=b"on my way", text="on my way")
        draft = Draft(sender=ANN, at_ms=1_000_000, content=content)
        store.sending(conversation, before, draft, seal=seal)

    times = sorted(elapsed_ms(send) for _ in range(200))
    yield Figure(name="send one message", value=median(times), unit="ms, median of 200")
    yield Figure(name="send one message, slow", value=times[197], unit="ms, 99th of 100")


def forgetting(store: Store) -> Iterator[Figure]:
    before_ms = MESSAGES // CONVERSATIONS // 10
    yield Figure(
        name="purge a tenth", value=elapsed_ms(lambda: store.purge(before_ms)), unit="ms, once"
    )


def figures() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "store.db"
        store = Store.create(path, KEY)
        fill(store)
        store.close()
        size = path.stat().st_size / MESSAGES
        yield Figure(name="size of a message", value=size, unit="bytes on the disk")
        yield from opening(path)
        store = Store.open(path, KEY)
        yield from searching(store)
        yield from catching_up(store)
        yield from forgetting(store)
        yield Figure(
            name="authenticate every page", value=elapsed_ms(store.verify), unit="ms, once"
        )
        store.close()


if __name__ == "__main__":
    sys.exit(report(figures()))
