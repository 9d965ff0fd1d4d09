"""One batch at a time, from the queue through the ledger to the writer and back to who asked.

A batch takes whatever has queued while the one before it was being written, so that a lone append
is written at once and a thousand at a time share one sync. Planning happens on the event loop
between two
batches: there are no locks, and a request is judged by everything that was granted before it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, TypeVar

from protocol.identifiers import DeviceId
from server.ledger import Batch, Cursor, Ledger
from server.sqlite_wal import Left
from server.sqlite_writer import Writer
from server.store import LogKey, StoreError, StoreFailedError, StoreFullError

_log = logging.getLogger(__name__)

T = TypeVar("T")
Plan = Callable[[Ledger, Batch], T]
Done = Callable[[Any, StoreError | None], None]
Acknowledgement = tuple[LogKey, DeviceId, int]

BATCH_REQUESTS = 1024
"""Requests planned into one transaction: beyond this a batch's own time outweighs its sync."""

MOVE_S = 0.1
"""Seconds for which acknowledgements are gathered until a batch moves their cursors.

Nobody waits for one, and a busy cursor's row is then written once instead of with every batch. What
all have passed is deleted as much later; the rest of the second in which its bytes must be gone is
the checkpoint's.
"""

CHECKPOINT_S = 0.3
"""Seconds from the first write to the checkpoint, and from one that left the log to the next.

Deleted bytes must have left the log within a second. A checkpoint copies each page once however
often it was written since the last, so the longer the wait the cheaper. Under load the bytes go
with the second one (``server.sqlite_wal``): with ``MOVE_S`` after seven tenths of a second, which
leaves the rest to a busy disk and to readers that hold the log open.
"""

CHECKPOINT_RETRY_S = 0.05
"""Seconds until a checkpoint that a reader held up is tried again."""

RETRY_S = 0.5
"""Seconds in which a full or failed disk is not asked again: each try rebuilds the ledger."""


def _nothing(_ledger: Ledger, _batch: Batch) -> None:
    """Plan nothing: what is answered after everything that was asked before."""


class _Item:
    """A request in the queue: how many it counts for, how to plan it, whom to tell.

    ``moves`` says whether cursors must have been moved before it.
    """

    __slots__ = ("done", "moves", "plan", "weight")

    def __init__(self, weight: int, plan: Plan[Any], done: Done, *, moves: bool) -> None:
        self.weight = weight
        self.moves = moves
        self.plan = plan
        self.done = done


class _Flight:
    """A batch on its way: what it answers, and to whom."""

    __slots__ = ("acknowledged", "batch", "items", "last_row", "outcomes")

    def __init__(self, items: list[_Item], acknowledged: list[Acknowledgement]) -> None:
        self.items = items
        self.acknowledged = acknowledged
        self.batch = Batch()
        self.outcomes: list[tuple[Any, StoreError | None]] = []
        self.last_row = 0

    def plan(self, ledger: Ledger, moved: dict[Cursor, None], *, settle: bool) -> None:
        """Change the ledger and fill the batch; where it is to settle, leave no cursor behind."""
        batch = self.batch
        for cursor in moved:
            ledger.move(cursor, batch)
        for item in self.items:
            try:
                self.outcomes.append((item.plan(ledger, batch), None))
            except StoreError as refusal:
                self.outcomes.append((None, refusal))
        if settle:
            for cursor in ledger.passed:
                ledger.move(cursor, batch)
            ledger.passed.clear()
        self.last_row = ledger.next_row - 1
        if batch:
            batch.seal()
            batch.put("tail", 1, ledger.tail())

    def answer(self) -> None:
        """Tell everybody; one who fails to listen is no reason not to tell the next."""
        for item, (value, error) in zip(self.items, self.outcomes, strict=True):
            _tell(item, value, error)


def _tell(item: _Item, value: Any, error: StoreError | None) -> None:
    try:
        item.done(value, error)
    except Exception as raised:
        _log.error("an answer was not taken: %s", type(raised).__name__)


class Pipeline:
    """The queue of a store, its ledger, and the batch that is being written."""

    def __init__(self, writer: Writer, ledger: Ledger, *, facts_whole: bool) -> None:
        self.ledger = ledger
        self.facts_whole = facts_whole
        self.committed = ledger.next_row - 1
        self.closed = False
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        self._queue: list[_Item] = []
        self._moved: dict[Cursor, None] = {}
        self._move_due = False
        self._moving: asyncio.TimerHandle | None = None
        self._busy = False
        self._woken = False
        self._full_until = 0.0
        self._checkpoint: asyncio.TimerHandle | None = None
        self._checkpoint_in(CHECKPOINT_S)

    def enqueue(self, weight: int, plan: Plan[Any], done: Done, *, moves: bool = False) -> None:
        """Have ``plan`` made part of a batch, and ``done`` told what came of it after the sync."""
        item = _Item(weight, plan, done, moves=moves)
        if self.closed:
            self._loop.call_soon(_tell, item, None, StoreFailedError())
            return
        self._queue.append(item)
        self._wake()

    def ask(self, plan: Plan[T]) -> asyncio.Future[T]:
        """As ``enqueue``, behind every acknowledgement so far; give what came of it."""
        future: asyncio.Future[T] = self._loop.create_future()

        def done(value: T, error: StoreError | None) -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(value)

        self.enqueue(1, plan, done, moves=True)
        return future

    def acknowledge(self, log: LogKey, device: DeviceId, seq: int) -> int | None:
        """Have a cursor moved within ``MOVE_S``; see ``Store`` for what is returned."""
        known = self.ledger.logs.get(log)
        cursor = known.cursors.get(device) if known is not None else None
        if known is None or cursor is None:
            return None
        if seq > known.head and seq >= self.ledger.floor:
            return cursor.wanted
        if cursor.want(min(seq, known.head)):
            self._moved[cursor] = None
            if self._moving is None:
                self._moving = self._loop.call_later(MOVE_S, self._move)
        return None

    def _move(self) -> None:
        self._moving = None
        self._move_due = True
        self._wake()

    def _take_moved(self) -> dict[Cursor, None]:
        moved, self._moved = self._moved, {}
        self._move_due = False
        if self._moving is not None:
            self._moving.cancel()
            self._moving = None
        return moved

    async def settle(self) -> None:
        """Return once everything asked before is durable.

        Raises:
            StoreError: The batch that held the last of it was not written.
        """
        await self.ask(_nothing)

    async def close(self) -> None:
        """Answer what was asked before, and take nothing more."""
        try:
            await self.settle()
        except StoreError as error:
            _log.error("the last batch was not written: %s", type(error).__name__)
        self.closed = True
        for timer in (self._checkpoint, self._moving):
            if timer is not None:
                timer.cancel()

    def _wake(self) -> None:
        # Not at once: what else arrives in this turn of the loop goes into the same batch.
        if not (self._woken or self._busy):
            self._woken = True
            self._loop.call_soon(self._begin)

    def _take(self) -> list[_Item]:
        weight = 0
        for count, item in enumerate(self._queue, 1):
            weight += item.weight
            if weight >= BATCH_REQUESTS:
                taken, self._queue = self._queue[:count], self._queue[count:]
                return taken
        taken, self._queue = self._queue, []
        return taken

    def _begin(self) -> None:
        self._woken = False
        if self._busy or not (self._queue or self._move_due):
            return
        if self._loop.time() < self._full_until:
            self._refuse(self._take(), StoreFullError())
            self._loop.call_at(self._full_until, self._wake)
            return
        items = self._take()
        settle = any(item.moves for item in items)
        moved = self._take_moved() if settle or self._move_due else {}
        flight = _Flight(items, [(c.log.key, c.device.key[1], c.wanted) for c in moved])
        try:
            flight.plan(self.ledger, moved, settle=settle)
        except Exception as error:
            _log.error("planning failed: %s", type(error).__name__)
            self._failed(flight, StoreFailedError())
            return
        self._busy = True
        if flight.batch:
            self._writer.commit_later(flight.batch, lambda error: self._finish(flight, error))
        else:
            self._finish(flight, None)

    def _finish(self, flight: _Flight, error: StoreError | None) -> None:
        if error is not None:
            self._failed(flight, error)
            return
        self._busy = False
        self.committed = flight.last_row
        self.ledger.settle()
        if flight.batch:
            self._checkpoint_in(CHECKPOINT_S)
        self._gather_passed()
        flight.answer()
        if self._queue or self._move_due:
            self._wake()

    def _gather_passed(self) -> None:
        """Have the senders' own cursors moved with those that were acknowledged."""
        if self.ledger.passed:
            self._moved.update(self.ledger.passed)
            self.ledger.passed.clear()
            if self._moving is None:
                self._moving = self._loop.call_later(MOVE_S, self._move)

    # When a write has failed.

    def _failed(self, flight: _Flight, error: StoreError) -> None:
        """Answer the batch, throw away the ledger that ran ahead, and build it from the rows."""
        if isinstance(error, StoreFullError):
            self._full_until = self._loop.time() + RETRY_S
        self._busy = True
        self._refuse(flight.items, error)
        self._reload(flight.acknowledged)

    def _refuse(self, items: list[_Item], error: StoreError) -> None:
        for item in items:
            _tell(item, None, error)

    def _reload(self, acknowledged: list[Acknowledgement]) -> None:
        self._writer.post(
            self._writer.open, lambda value, error: self._reloaded(value, error, acknowledged)
        )

    def _reloaded(
        self,
        value: tuple[Ledger, bool] | None,
        error: StoreError | None,
        acknowledged: list[Acknowledgement],
    ) -> None:
        acknowledged += [(c.log.key, c.device.key[1], c.wanted) for c in self._take_moved()]
        if value is None:
            _log.error("the store cannot be opened: %s", type(error).__name__)
            self._refuse(self._take(), error or StoreFailedError())
            self._loop.call_later(RETRY_S, self._reload, acknowledged)
            return
        value[0].clock.monotonic_ms = self.ledger.clock.monotonic_ms
        self.ledger, self.facts_whole = value
        self.committed = self.ledger.next_row - 1
        self._busy = False
        for log, device, seq in acknowledged:
            self.acknowledge(log, device, seq)
        if self._queue:
            self._wake()

    # The write-ahead log.

    def _checkpoint_in(self, delay_s: float) -> None:
        if self._checkpoint is None and not self.closed:
            self._checkpoint = self._loop.call_later(delay_s, self._begin_checkpoint)

    def _begin_checkpoint(self) -> None:
        self._writer.post(self._writer.checkpoint, self._finish_checkpoint)

    def _finish_checkpoint(self, left: Left | None, error: StoreError | None) -> None:
        self._checkpoint = None
        if error is not None or left is Left.HELD:
            self._checkpoint_in(CHECKPOINT_RETRY_S)
        elif left is Left.LAST:
            self._checkpoint_in(CHECKPOINT_S)
