"""How long it takes until an opened scope can be searched: JSON lines, exit 1 where it is missed.

python -m bench.opening     QUICK=1 ends within a minute

Sealed conversations are made first, which is not counted. What is counted is what a reviewer waits
for once the officers have released: shares opened, segments unsealed, every message decrypted, its
signature verified, its words put into the index, in the worker process. The wanted value holds for
seconds of one core's time, so that a busy machine does not count; what the clock said is told too.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator

import psutil

from archive.opening_reading import Line, Member, Recorded, Segment
from archive.opening_session import Worker
from archive.segment import Officer, SealedSegment, SegmentName, seal_segment, share_context
from bench.report import Figure, report
from crypto.mls import Add, Group
from crypto.mls.recording import EpochDecryption
from crypto.sealing import open_share, seal_share
from crypto.xwing import XWingKey
from protocol.authenticated_data import AuthenticatedData
from protocol.content import Text, encode
from tests.crypto.hospital import Staff
from tests.crypto.test_certified_group import key_package

QUICK = bool(os.environ.get("QUICK"))
RECORDS = 25_000 if QUICK else 250_000
SEGMENT_RECORDS = 500
K, N = 3, 5
WANTED_S = 60.0 * RECORDS / 250_000
WORDS = "bp saturation theatre ward drip analgesia consult discharge transfer lab potassium x-ray"


def accept(leaf: object, replaced: object) -> None:
    """Take any leaf."""


class Ward:
    """A hospital whose conversations are sealed to five officers."""

    def __init__(self) -> None:
        self.staff = Staff()
        self.session = XWingKey.generate()
        self.keys = [XWingKey.generate() for _ in range(N)]
        self.officers = [
            Officer(name=b"officer-%d" % n, public_key=key.public_key)
            for n, key in enumerate(self.keys)
        ]

    def segments(self) -> Iterator[Segment]:
        for first in range(0, RECORDS, SEGMENT_RECORDS):
            yield self.segment(first // SEGMENT_RECORDS, first)

    def segment(self, number: int, first: int) -> Segment:
        devices = (self.staff.alice, self.staff.ada)
        own = [key_package(device) for device in devices]
        group_id = number.to_bytes(32, "big")
        group = Group.create(own[0], group_id=group_id)
        _, staged = group.commit([Add(own[1].key_package)], authenticate=accept)
        assert staged.group is not None
        assert staged.welcome is not None
        recorder = Group.join(staged.welcome, own[1], authenticate=accept)
        name = SegmentName(
            organisation=self.staff.organisation,
            group_id=group_id,
            epoch=recorder.epoch,
            bucket=b"clinical 2027Q1",
        )
        secrets = EpochDecryption.of(recorder)
        sealed = seal_segment(secrets, name, officers=self.officers, k=K)
        messages = []
        group = group.merge(staged.group)
        for at in range(first, first + SEGMENT_RECORDS):
            said = Text(text=f"{WORDS} {at} " * 2)
            data = AuthenticatedData(message_id=at + 1).encode()
            group, message = group.encrypt(encode(said), authenticated_data=data)
            messages.append(Recorded(index=at, sequence=at, sent_ms=at, message=message))
        return Segment(
            sealed=sealed.encode(),
            shares=dict(self.released(sealed)),
            members=tuple(
                Member(leaf=int(at), certificate=leaf.credential.certificates[0])
                for at, leaf in recorder.members
            ),
            messages=tuple(messages),
        )

    def released(self, sealed: SealedSegment) -> Iterator[tuple[str, bytes]]:
        for at in range(K):
            own = sealed.shares[at]
            context = share_context(
                sealed.name, officer=self.officers[at].name, index=at + 1, k=K, n=N
            )
            share = open_share(own, key=self.keys[at], expected=context)
            released = seal_share(share, public_key=self.session.public_key, context=context)
            yield self.officers[at].name.decode(), released.encode()


def figures() -> Iterator[Figure]:
    ward = Ward()
    segments = list(ward.segments())
    started = time.perf_counter()
    worker = Worker(ward.session, ward.staff.root)
    lines = worker.add(segments)
    found = worker.ask("search", list[Line], text=f"potassium {RECORDS // 2}")
    took = time.perf_counter() - started
    spent = psutil.Process(worker.pid).cpu_times()
    summary = worker.ask("summary", dict)
    assert (lines, summary["faults"]) == (RECORDS, {})
    assert [line.index for line in found] == [RECORDS // 2]
    yield Figure(
        name=f"{RECORDS} records opened, verified and searchable",
        value=took,
        unit=f"s, one run, {len(segments)} segments",
    )
    yield Figure(
        name=f"{RECORDS} records opened, verified and searchable, CPU of the worker",
        value=spent.user + spent.system,
        unit=f"s, one run, {len(segments)} segments",
        wanted=WANTED_S,
    )
    started = time.perf_counter()
    worker.ask("search", list[Line], text="potassium discharge", limit=100)
    yield Figure(
        name="search for two words that all have, 100 lines",
        value=time.perf_counter() - started,
        unit="s, one run",
    )
    worker.close()


if __name__ == "__main__":
    sys.exit(report(figures()))
