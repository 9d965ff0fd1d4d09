"""The process that reads what was opened: keys, plaintext and index live here and die with it.

python -m archive.opening_worker IDLE_SECONDS

It gets what is handed out on standard input, answers questions on standard output, and ends when
nobody has asked for a while, when its input ends, or when it is told to. It opens no file and no
connection.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from archive.opening_index import OpenedIndex
from archive.opening_reading import Segment, read_segment, unseal
from archive.segment import Officer, SealedSegment, SegmentName, seal_segment
from crypto.certificate import Root, pin_root
from crypto.errors import CryptoError
from crypto.xwing import XWingKey

LENGTH_BYTES = 4
"""Before each message: its length, big-endian."""

ENDED = b""


class Pipe:
    """Messages over two file descriptors."""

    def __init__(self, read: int, write: int, *, idle_s: float | None = None) -> None:
        self._read = read
        self._write = write
        self._idle_s = idle_s

    def send(self, value: object) -> None:
        """Send a message."""
        data = msgspec.msgpack.encode(value)
        pieces = memoryview(len(data).to_bytes(LENGTH_BYTES, "big") + data)
        while pieces:
            pieces = pieces[os.write(self._write, pieces) :]

    def receive(self) -> bytes:
        """Return the next message, or ``ENDED``: at the input's end, or after idle seconds."""
        head = self._exactly(LENGTH_BYTES)
        return self._exactly(int.from_bytes(head, "big")) if head else ENDED

    def _exactly(self, size: int) -> bytes:
        found = bytearray()
        while len(found) < size:
            if self._idle_s is not None:
                ready, _, _ = select.select([self._read], [], [], self._idle_s)
                if not ready:
                    return ENDED
            piece = os.read(self._read, min(size - len(found), 1 << 20))
            if not piece:
                return ENDED
            found += piece
        return bytes(found)


class Begin(msgspec.Struct, frozen=True, array_like=True):
    """What the process is told first.

    Attributes:
        seed: The review session's key.
        root: The organisation's root certificate.
        organisation: Its fingerprint.
    """

    seed: bytes
    root: bytes
    organisation: bytes


class Reshare(msgspec.Struct, frozen=True, array_like=True):
    """A segment that is to be shared anew.

    Attributes:
        segment: As handed out, without messages.
        bucket: Retention bucket of the new shares.
        officers: Names and public keys.
        k: Shares that open it.
    """

    segment: Segment
    bucket: bytes
    officers: tuple[tuple[bytes, bytes], ...]
    k: int


class Question(msgspec.Struct, frozen=True, array_like=True):
    """What is asked of the process.

    Attributes:
        name: Of a method of ``_Reader``.
        arguments: Its arguments.
    """

    name: str
    arguments: dict[str, Any]


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """What it answers.

    Attributes:
        value: The method's value.
        fault: Class of what it raised; empty where it raised nothing.
    """

    value: Any = None
    fault: str = ""


class _Reader:
    """What the process can do."""

    def __init__(self, begin: Begin) -> None:
        self._key = XWingKey.from_seed(begin.seed)
        self._root: Root = pin_root(begin.root, organisation=begin.organisation)
        self._index = OpenedIndex()

    def add(self, segment: bytes) -> int:
        decoded = msgspec.msgpack.decode(segment, type=Segment)
        return self._index.add(read_segment(decoded, self._key, self._root))

    def reshare(self, wanted: bytes) -> bytes:
        """Return a segment sealed to other officers; its content is not read."""
        order = msgspec.msgpack.decode(wanted, type=Reshare)
        old = SealedSegment.decode(order.segment.sealed).name
        name = SegmentName(
            organisation=old.organisation,
            group_id=old.group_id,
            epoch=old.epoch,
            bucket=order.bucket,
        )
        officers = [Officer(name=name, public_key=key) for name, key in order.officers]
        secrets = unseal(order.segment, self._key)
        return seal_segment(secrets, name, officers=officers, k=order.k).encode()

    def methods(self) -> dict[str, Callable[..., Any]]:
        index = self._index
        return {
            "add": self.add,
            "reshare": self.reshare,
            "timeline": index.timeline,
            "search": index.search,
            "context": index.context,
            "course": index.course,
            "participants": index.participants,
            "summary": index.summary,
            "evidence": index.evidence,
        }


def serve(pipe: Pipe) -> None:
    """Answer until nobody asks any more."""
    first = pipe.receive()
    if first == ENDED:
        return
    methods = _Reader(msgspec.msgpack.decode(first, type=Begin)).methods()
    pipe.send(Answer())
    while (data := pipe.receive()) != ENDED:
        question = msgspec.msgpack.decode(data, type=Question)
        if question.name == "end":
            return
        try:
            value = methods[question.name](**question.arguments)
        except (CryptoError, KeyError, TypeError) as error:
            pipe.send(Answer(fault=type(error).__name__))
        else:
            pipe.send(Answer(value=value))


def main(arguments: Iterable[str]) -> None:
    """Serve on standard input and output."""
    (idle_s,) = arguments
    serve(Pipe(sys.stdin.fileno(), sys.stdout.fileno(), idle_s=float(idle_s)))


if __name__ == "__main__":
    main(sys.argv[1:])
