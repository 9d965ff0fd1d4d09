"""A relay in between that makes frames up, by a seed: of every kind, with values of true ones.

It sits before the socket of one device. What the device says reaches the true relay; what comes
back comes among frames that nobody sent, altered, cut short or not at all. ``honest`` ends that.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping
from random import Random
from typing import Annotated, Any, get_args, get_origin

import msgspec
import pytest
from msgspec import Meta
from websockets.asyncio.client import ClientConnection

from client.link import Address, Link
from protocol import frames, limits
from protocol.errors import Code
from protocol.frames import Deliver, Frame, Sender
from protocol.identifiers import DeviceId
from protocol.session import TABLE, State
from tests.adversary.mutation import mutated

KINDS = tuple(kind for kind in frames.FRAMES if kind.sender is Sender.RELAY)
OFTEN = (Deliver, frames.Accepted, frames.RefusedMessage, frames.Ended, frames.Behind)
SELDOM = 0.1
"""How often a frame of an opening has others beside it."""

ENDING = 0.06
"""How often a frame is of any kind, of which most end a connection that is open."""

FAR = (1 << 32, 1 << 40, 1 << 62)
YEAR_MS = 365 * 24 * 3600 * 1000
SEEN_MOST = 64
TRACE_MOST = 4_000


class Between:
    """Stands between one device and the relay.

    Attributes:
        lies: Whether it lies now.
        made: How many frames of each kind it has made up, cut short or kept.
        trace: What it told, the newest last; for whoever asks why.
        connections: How often the device has connected.
    """

    def __init__(self, patch: pytest.MonkeyPatch, device: DeviceId, random: Random) -> None:
        self.lies = False
        self.made: Counter[str] = Counter()
        self.trace: deque[object] = deque(maxlen=TRACE_MOST)
        self.connections = 0
        self._device = device
        self._random = random
        self._logs: list[bytes] = [
            b"o",
            b"a",
            f"i{device}".encode(),
            b"ieve/phone",
            b"c" + bytes(32),
        ]
        self._last: dict[bytes, int] = {}
        self._bytes: deque[bytes] = deque([b""], maxlen=SEEN_MOST)
        self._ids: deque[int] = deque([1], maxlen=SEEN_MOST)
        self._refs: deque[int] = deque([1], maxlen=8)
        self._now_ms = 0
        self._last_id = 0
        self._link: Link | None = None
        begin = Link.__init__

        def sat(link: Link, socket: Any, address: Address, name: DeviceId) -> None:
            if name == device:
                self.connections += 1
                self._link = link
                socket = _Socket(socket, self)
            begin(link, socket, address, name)

        patch.setattr(Link, "__init__", sat)

    def lie(self) -> None:
        """Make frames up from now on."""
        self.lies = True

    def honest(self) -> None:
        """Let through what comes, and nothing else."""
        self.lies = False

    async def cut(self) -> None:
        """End the connection."""
        if self._link is not None:
            await self._link.close()

    # -- what passes ---------------------------------------------------------------------------

    def said(self, data: bytes) -> None:
        """Note what the device says."""
        frame = frames.decode(data, sender=Sender.CLIENT)
        self._refs.append(getattr(frame, "ref", 0) or self._refs[-1])
        for part in ("message", "statement", "welcome"):
            self._see(getattr(frame, part, b""))

    def told(self, data: bytes) -> list[bytes]:
        """Return what the device hears where the relay tells it something."""
        frame = frames.decode(data, sender=Sender.RELAY)
        self._note(frame)
        if not self.lies:
            return [data]
        heard = self._lies()
        fate = self._random.random() if self._is_open or self._random.random() < SELDOM else 1.0
        if fate < 0.05:
            self._count("kept")
        elif fate < 0.07:
            self._count("cut")
            heard.append(mutated(self._random, data, [*self._bytes]))
        elif fate < 0.14:
            heard.append(self._altered(frame))
        else:
            heard.append(data)
        return heard + self._lies()

    @property
    def _is_open(self) -> bool:
        return self._link is not None and self._link.state is State.OPEN

    def _lies(self) -> list[bytes]:
        """Return what comes beside a true frame: seldom while a device is let in, or none was."""
        random = self._random
        if not self._is_open and random.random() > SELDOM:
            return []
        return [self._lie() for _ in range(random.choice((0, 1, 1, 2, 3)))]

    def _note(self, frame: Frame) -> None:
        if isinstance(frame, Deliver):
            if frame.log not in self._logs:
                self._logs.append(frame.log)
            self._last[frame.log] = max(self._last.get(frame.log, 0), frame.sequence)
            self._now_ms = max(self._now_ms, frame.at_ms)
            self._see(frame.body)
        elif isinstance(frame, frames.Opened):
            self._now_ms, self._last_id = frame.now_ms, frame.last_id
        elif isinstance(frame, frames.Accepted):
            self._ids.extend(frame.message_ids)
        elif isinstance(frame, frames.Directory):
            for entry in frame.devices:
                self._see(entry.certificate)
        elif isinstance(frame, frames.Statements):
            for one in frame.entries:
                self._see(one.statement)
        elif isinstance(frame, frames.KeyPackage):
            self._see(frame.package)

    def _see(self, data: bytes) -> None:
        if data:
            self._bytes.append(data)

    # -- what it makes up ----------------------------------------------------------------------

    def _lie(self) -> bytes:
        random = self._random
        state = State.OPEN if self._link is None else self._link.state
        allowed = [kind for kind in KINDS if kind in TABLE[state] and kind is not frames.Close]
        kinds = allowed if allowed and random.random() > ENDING else KINDS
        kind = random.choice((*kinds, *(one for one in kinds if one in OFTEN)))
        self._count(kind.__name__)
        data = frames.encode(self._made(kind))
        return mutated(random, data, [*self._bytes]) if random.random() < 0.02 else data

    def _altered(self, frame: Frame) -> bytes:
        """Return a true frame of which one field is made up."""
        fields = msgspec.structs.fields(frame)
        if not fields:
            return frames.encode(frame)
        one = self._random.choice(fields)
        values = {field.name: getattr(frame, field.name) for field in fields}
        values[one.name] = self._value(one.name, one.type, values)
        self._count(f"{type(frame).__name__} altered")
        made = type(frame)(**values)
        self.trace.append(made)
        return frames.encode(made)

    def _made(self, kind: type[msgspec.Struct]) -> Any:
        values: dict[str, Any] = {}
        for field in msgspec.structs.fields(kind):
            values[field.name] = self._value(field.name, field.type, values)
        made = kind(**values)
        if isinstance(made, Frame):
            self.trace.append(made)
        return made

    def _value(self, name: str, hint: Any, others: Mapping[str, Any]) -> Any:
        base, meta = _parts(hint)
        if get_origin(base) is tuple:
            count = self._random.choice((0, 1, 1, 2, 3))
            return tuple(self._value(name, get_args(base)[0], others) for _ in range(count))
        if isinstance(base, type) and issubclass(base, msgspec.Struct):
            return self._made(base)
        if base is bool:
            return self._random.random() < 0.5
        if base is int:
            low, high = int(meta.ge or 0), int((1 << 63) - 1 if meta.le is None else meta.le)
            return min(max(self._number(name, others), low), high)
        if base is str:
            return self._random.choice(
                ("", "ann", "ann/phone", "bob/phone", "bob/new", "icu", "[b]")
            )
        return self._octets(name, meta)

    def _number(self, name: str, others: Mapping[str, Any]) -> int:
        random = self._random
        last = self._last.get(others.get("log", b""), max(self._last.values(), default=0))
        near = (last, last + 1, last + 1, last + 1, last + 2, last + 3, last + 30, max(0, last - 1))
        if name in ("sequence", "sequences", "through", "number"):
            return random.choice((*near, 0, 1, *FAR))
        if name == "predecessor":
            ahead = others.get("sequence", 1)
            return random.choice((last, last, last, max(0, ahead - 1), 0, ahead + 7, *FAR))
        if name.endswith("_ms"):
            now = self._now_ms
            times = (now, now, now - YEAR_MS, now + YEAR_MS, 0, limits.TIME_MAX_MS)
            return max(0, random.choice(times))
        if name in ("message_id", "message_ids"):
            return random.choice((*self._ids, self._ids[-1] + 1, self._ids[-1] + 2, *FAR))
        if name == "last_id":
            known = self._last_id
            return random.choice((known, known, max(0, known - 1), known + 3, 0, *FAR))
        if name == "ref":
            return random.choice((*self._refs, self._refs[-1] + 1, 0))
        if name == "code":
            return random.choice((*map(int, Code), 0, 99, (1 << 32) - 1))
        if name == "kind":
            return random.choice((*map(int, frames.EntryKind), 99))
        return random.choice((0, 1, 2, 3, 4, 77, 1_000, 1 << 31, (1 << 63) - 1))

    def _octets(self, name: str, meta: Meta) -> bytes:
        random = self._random
        if name == "log":
            return random.choice((*self._logs, *self._logs[5:], *self._logs[5:], b"z", b"c"))
        if name == "conversation" and random.random() < 0.7:
            made = random.choice([log[1:] for log in self._logs if log[:1] == b"c"])
        elif name == "pin" and self._link is not None and random.random() < 0.8:
            made = self._link.address.tls_pin
        else:
            made = random.choice((*self._bytes, random.randbytes(40)))
            if made and random.random() < 0.3:
                made = mutated(random, made, [*self._bytes])
        low, high = meta.min_length or 0, meta.max_length
        made = made.ljust(low, b"\x00")
        return made if high is None else made[:high]

    def _count(self, kind: str) -> None:
        self.made[kind] += 1


class _Socket:
    """A socket of which the frames come by way of whoever is in between."""

    def __init__(self, socket: ClientConnection, between: Between) -> None:
        self._socket = socket
        self._between = between
        self._heard: deque[bytes] = deque()
        self.close: Callable[[], Any] = socket.close

    async def send(self, data: bytes) -> None:
        self._between.said(data)
        await self._socket.send(data)

    async def recv(self) -> bytes:
        while not self._heard:
            data = await self._socket.recv()
            assert isinstance(data, bytes)
            self._heard.extend(self._between.told(data))
        return self._heard.popleft()


def _parts(hint: Any) -> tuple[Any, Meta]:
    if get_origin(hint) is Annotated:
        return hint.__origin__, hint.__metadata__[0]
    return hint, Meta()
