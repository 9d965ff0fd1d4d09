"""A review: the worker process with what was opened, and a record of each view."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import msgspec

from archive import intray
from archive.batch import Entry
from archive.errors import SessionError
from archive.forgetting import FORGETTING
from archive.opening_reading import Evidence, Line, Segment
from archive.opening_records import MOST_DETAIL_CHARACTERS, View
from archive.opening_worker import ENDED, Answer, Begin, Pipe, Question, Reshare
from archive.record import RecordType
from archive.shredding import ARCHIVE_BUCKET
from archive.store import Store
from crypto.certificate import Root
from crypto.xwing import XWingKey

IDLE_S = 15 * 60
"""Seconds without a question after which the worker ends, and with it all that was opened."""

T = TypeVar("T")


class Worker:
    """The process that holds what was opened."""

    def __init__(self, key: XWingKey, root: Root, *, idle_s: float = IDLE_S) -> None:
        """Start it.

        Args:
            key: The review session's.
            root: The pinned root.
            idle_s: Seconds without a question after which it ends.
        """
        self._process = subprocess.Popen(  # noqa: S603 - this interpreter and this package
            [sys.executable, "-m", "archive.opening_worker", str(idle_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # What it frees is overwritten, from its first allocation on.
            env={**os.environ, **FORGETTING},
        )
        if self._process.stdin is None or self._process.stdout is None:
            raise SessionError
        self._pipe = Pipe(self._process.stdout.fileno(), self._process.stdin.fileno())
        begin = Begin(seed=key.seed, root=root.der, organisation=root.organisation)
        self._pipe.send(begin)
        self._answer()

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    def ask(self, name: str, kind: type[T], **arguments: Any) -> T:
        """Return the answer to a question.

        Raises:
            SessionError: The process has ended, or cannot answer.
        """
        try:
            self._pipe.send(Question(name=name, arguments=arguments))
        except BrokenPipeError:
            raise SessionError from None
        return msgspec.convert(self._answer().value, kind)

    def _answer(self) -> Answer:
        data = self._pipe.receive()
        answer = (
            Answer(fault="ended") if data == ENDED else msgspec.msgpack.decode(data, type=Answer)
        )
        if answer.fault:
            raise SessionError
        return answer

    def add(self, segments: Iterable[Segment]) -> int:
        """Hand segments over; return how many lines there are."""
        lines = 0
        for segment in segments:
            lines = self.ask("add", int, segment=msgspec.msgpack.encode(segment))
        return lines

    def reshare(self, order: Reshare) -> bytes:
        """Return a segment sealed anew."""
        return self.ask("reshare", bytes, wanted=msgspec.msgpack.encode(order))

    def close(self) -> None:
        """End the process."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process.wait()


class Review:
    """What a reviewer asks of an opened scope; each view is recorded."""

    def __init__(
        self, worker: Worker, store: Store, *, request: bytes, clock: Callable[[], int]
    ) -> None:
        """Take the worker.

        Args:
            worker: With what was opened.
            store: The log's database, whose intray records the views.
            request: ``statement_hash`` of the opening's request.
            clock: Gives now, in ms since the epoch.
        """
        self._worker = worker
        self._store = store
        self._request = request
        self._clock = clock

    def timeline(self, *, group: str = "", after_index: int = -1, limit: int = 100) -> list[Line]:
        """Return lines in the order of time, after the line of a record."""
        return self._viewed(
            "timeline",
            f"{group} after {after_index}",
            group=group,
            after_index=after_index,
            limit=limit,
        )

    def search(self, text: str, *, limit: int = 100) -> list[Line]:
        """Return the lines with all of the words in ``text``."""
        return self._viewed("search", text, text=text, limit=limit)

    def context(self, index: int, *, before: int = 10, after: int = 10) -> list[Line]:
        """Return a line with those around it in its conversation."""
        return self._viewed("context", str(index), index=index, before=before, after=after)

    def course(self, index: int) -> list[Line]:
        """Return the lines that say who got, read and acknowledged a message."""
        return self._viewed("course", str(index), index=index)

    def participants(self) -> list[dict[str, Any]]:
        """Return who wrote in which conversation, how much, first and last."""
        found = self._worker.ask("participants", list[dict[str, Any]])
        self._record("participants", "", len(found))
        return found

    def summary(self) -> dict[str, Any]:
        """Return how many lines there are, and what is wrong with how many; no content."""
        return self._worker.ask("summary", dict[str, Any])

    def evidence(self, indices: list[int]) -> list[Evidence]:
        """Return what shows that lines are what was sent; whoever exports records that."""
        return self._worker.ask("evidence", list[Evidence], indices=indices)

    def _viewed(self, name: str, detail: str, **arguments: Any) -> list[Line]:
        found = self._worker.ask(name, list[Line], **arguments)
        # Handed in before it is shown; the log has it a moment later.
        self._record(name, detail, len(found))
        return found

    def _record(self, what: str, detail: str, lines: int) -> None:
        body = View(
            request=self._request,
            at_ms=self._clock(),
            what=what,
            detail=detail[:MOST_DETAIL_CHARACTERS],
            lines=lines,
        ).encode()
        intray.submit(self._store, Entry(type=RecordType.VIEW, body=body, bucket=ARCHIVE_BUCKET))
