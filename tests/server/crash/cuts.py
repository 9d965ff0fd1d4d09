"""A disk that loses its power: what of the writes that were not synced is found afterwards.

Until a file is synced, each 512-byte sector that was written to it may be on the disk or not, in
whatever order, and so may each change of its length; a file made or removed may be found or not
until its directory is synced. What was synced is there.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from random import Random

from tests.server.crash.tracing import Event

SECTOR = 512


class File:
    """A file: what is surely on the disk, and what was done to it since."""

    def __init__(self, content: bytes = b"") -> None:
        self.durable = bytearray(content)
        self.pending: list[Event] = []

    def sync(self) -> None:
        for event in self.pending:
            _apply(self.durable, event)
        self.pending = []

    def after_cut(self, random: Random) -> bytes:
        content = bytearray(self.durable)
        pieces = [piece for event in self.pending for piece in _sectors(event)]
        manner = random.choice(("none", "some", "some", "first", "reordered", "all"))
        if manner == "none":
            pieces = []
        elif manner == "first":
            pieces = pieces[: random.randint(0, len(pieces))]
        elif manner in ("some", "reordered"):
            keep = random.choice((0.1, 0.5, 0.9))
            pieces = [piece for piece in pieces if random.random() < keep]
        if manner == "reordered":
            random.shuffle(pieces)
        for piece in pieces:
            _apply(content, piece)
        return bytes(content)


def _sectors(event: Event) -> Iterable[Event]:
    """A write as the sectors that it touches, each of which lands whole or not at all."""
    if event.call != "write":
        yield event
        return
    start, end = event.offset, event.offset + len(event.data)
    while start < end:
        stop = min(end, (start // SECTOR + 1) * SECTOR)
        data = event.data[start - event.offset : stop - event.offset]
        yield Event(call="write", path=event.path, data=data, offset=start)
        start = stop


def _apply(content: bytearray, event: Event) -> None:
    if event.call == "truncate":
        del content[event.offset :]
        content.extend(bytes(event.offset - len(content)))
        return
    end = event.offset + len(event.data)
    if len(content) < end:
        content.extend(bytes(end - len(content)))
    content[event.offset : end] = event.data


class Disk:
    """A directory's files under a program that is being watched."""

    def __init__(self, directory: Path) -> None:
        self.directory = str(directory)
        self.names: dict[str, File] = {
            str(path): File(path.read_bytes()) for path in directory.iterdir()
        }
        self.durable_names = dict(self.names)

    def take(self, event: Event) -> None:
        """Do what the program did."""
        if event.call == "create":
            self.names.setdefault(event.path, File())
        elif event.call == "unlink":
            self.names.pop(event.path, None)
        elif event.call == "sync" and event.path == self.directory:
            self.durable_names = dict(self.names)
        elif event.call == "sync":
            self.names[event.path].sync()
        elif event.call in ("write", "truncate"):
            self.names[event.path].pending.append(event)

    def cut(self, target: Path, random: Random) -> None:
        """Write what is found after the power came back into the empty directory ``target``."""
        names = {}
        for name in {*self.names, *self.durable_names}:
            now, before = self.names.get(name), self.durable_names.get(name)
            file = now if now is before else random.choice((now, before))
            if file is not None:
                names[name] = file
        for name, file in names.items():
            (target / Path(name).name).write_bytes(file.after_cut(random))
            (target / Path(name).name).chmod(0o600)


def power_cuts(
    directory: Path, disk: Disk, events: Sequence[Event], *, cuts: int, seed: int
) -> Iterator[tuple[Path, bytes]]:
    """Cut the power ``cuts`` times over a whole run.

    Yields:
        A directory with what is found after each, which is gone at the next, and what the program
        had told before it.
    """
    random = Random(seed)
    target = directory / "cut"
    told, done = b"", 0
    for count, event in enumerate(events, 1):
        if event.call == "tell":
            told += event.data
        else:
            disk.take(event)
        wanted = cuts * count // len(events)
        for _ in range(wanted - done):
            target.mkdir()
            disk.cut(target, random)
            yield target, told
            shutil.rmtree(target)
        done = wanted
