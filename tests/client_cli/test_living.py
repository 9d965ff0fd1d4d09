"""A device that is shut out while it runs: it follows its order, and says why it ends."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from client import wiping
from client.errors import ClosedError, SuspendedError, UnreachableError, WipingError
from client.words import Code
from client_cli import session


class ShutOut:
    """A device that the relay ends the connection of."""

    def __init__(self, code: Code) -> None:
        self.code = code
        self.closed = False

    async def run(self) -> None:
        raise ClosedError(self.code)

    def close(self) -> None:
        self.closed = True


class Orders:
    """What a device meets when it connects as a locked one, try by try."""

    def __init__(self, *met: Exception | None) -> None:
        self.met = list(met)

    async def obey(self, *_arguments: object, **_more: object) -> None:
        error = self.met.pop(0)
        if error is not None:
            raise error


async def ended(code: Code, orders: Orders, monkeypatch: pytest.MonkeyPatch) -> ShutOut:
    monkeypatch.setattr(wiping, "obey", orders.obey)
    device = ShutOut(code)
    opened = SimpleNamespace(profile=None)
    await session._living(device, opened)  # type: ignore[arg-type]
    return device


async def test_a_device_that_is_wiped_while_it_runs_follows_the_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(WipingError):
        await ended(Code.REVOKED, Orders(None), monkeypatch)


async def test_an_order_that_is_completed_a_moment_later_is_followed_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    orders = Orders(UnreachableError(), SuspendedError(), None)
    with pytest.raises(WipingError):
        await ended(Code.REVOKED, orders, monkeypatch)
    assert orders.met == []


async def test_a_device_without_an_order_is_suspended_and_destroys_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(SuspendedError):
        await ended(Code.REVOKED, Orders(*[SuspendedError()] * 3), monkeypatch)


async def test_a_device_that_connected_elsewhere_asks_for_no_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ClosedError):
        await ended(Code.REPLACED, Orders(), monkeypatch)
