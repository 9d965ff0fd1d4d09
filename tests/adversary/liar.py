"""A relay that lies to one device: what it sends is changed on its way, what it is sent is not."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import pytest

from client import link as links
from client.link import Address, Credentials, Link
from protocol import frames
from protocol.frames import Deliver, Frame

Change = Callable[[Frame], list[Frame]]
"""Returns what arrives in the place of a frame."""


def honest(frame: Frame) -> list[Frame]:
    return [frame]


class Liar:
    """Stands before the connections of one device.

    Attributes:
        change: What becomes of each frame.
        answer: What becomes of each answer to a request.
        connections: How often the device has connected.
        ahead: How many more messages of the device the relay says that it has, as it opens.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, device: str) -> None:
        self.change: Change = honest
        self.answer: Callable[[Frame], Frame] = lambda frame: frame
        self.connections = 0
        self.ahead = 0
        self.seen: list[Deliver] = []
        self._link: Link | None = None
        self._inject: deque[Frame] = deque()
        opening = links.Link.open

        async def opened(address: Address, credentials: Credentials) -> Link:
            link = await opening(address, credentials)
            if credentials.device == device:
                self._sit(link)
            return link

        monkeypatch.setattr(links.Link, "open", opened)

    def inject(self, *sent: Frame) -> None:
        """Let frames arrive with the next ones."""
        self._inject.extend(sent)

    def _sit(self, link: Link) -> None:
        self.connections += 1
        link.last_id += self.ahead
        receive, receive_now, ask = link.receive, link.receive_now, link.ask
        buffer: deque[Frame] = deque()

        def take(frame: Frame) -> None:
            if isinstance(frame, Deliver):
                self.seen.append(frame)
            buffer.extend(self._inject)
            self._inject.clear()
            buffer.extend(self.change(frame))

        async def lying_receive() -> Frame:
            while not buffer:
                take(await receive())
            return buffer.popleft()

        def lying_now() -> Frame | None:
            while not buffer:
                frame = receive_now()
                if frame is None:
                    return None
                take(frame)
            return buffer.popleft()

        async def lying_ask(make: Callable[[int], Frame]) -> Frame:
            return self.answer(await ask(make))

        link.receive = lying_receive  # type: ignore[method-assign]
        link.receive_now = lying_now  # type: ignore[method-assign]
        link.ask = lying_ask  # type: ignore[method-assign]
        self._link = link

    async def cut(self) -> None:
        """End the connection."""
        if self._link is not None:
            await self._link.close()


def is_message(frame: Frame) -> bool:
    """Tell whether a frame is a message of a conversation."""
    return is_entry(frame, frames.EntryKind.MESSAGE)


def is_entry(frame: Frame, kind: frames.EntryKind) -> bool:
    """Tell whether a frame is an entry of a kind in a conversation."""
    return isinstance(frame, Deliver) and frame.log[:1] == b"c" and frame.kind == kind


def altered(entry: Deliver, **fields: object) -> Deliver:
    """Return an entry with other fields."""
    values = {name: getattr(entry, name) for name in Deliver.__struct_fields__}
    return Deliver(**{**values, **fields})
