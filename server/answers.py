"""How a request that takes time is answered: done, or refused with one code, whatever happens."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from crypto.errors import CryptoError
from protocol.errors import Code
from protocol.frames import Done, Frame
from server import refusals
from server.store import StoreError

if TYPE_CHECKING:
    from server.connection import Connection
    from server.relay import Relay


class Refusal(Exception):  # noqa: N818 - it is an answer, not a fault
    """A request has no effect.

    Attributes:
        code: Why.
        detail: The number beside the code.
    """

    def __init__(self, code: Code, detail: int = 0) -> None:
        super().__init__(code.name)
        self.code = code
        self.detail = detail


def ensure(code: Code | None) -> None:
    """Turn an answer of ``access`` into a refusal.

    Raises:
        Refusal: The answer was no.
    """
    if code is not None:
        raise Refusal(code)


async def answer(relay: Relay, connection: Connection, ref: int, work: Awaitable[None]) -> None:
    """Await a request's work; answer that it is done, or why not."""

    async def done() -> Done:
        await work
        return Done(ref=ref)

    await answered(relay, connection, ref, done())


async def answered(relay: Relay, connection: Connection, ref: int, work: Awaitable[Frame]) -> None:
    """Await a request's answer and send it, or why there is none."""
    try:
        found = await work
    except Refusal as refusal:
        refuse(relay, connection, ref, refusal.code, refusal.detail)
    except StoreError as error:
        code, detail = refusals.of(error)
        refuse(relay, connection, ref, code, detail)
    except CryptoError:
        refuse(relay, connection, ref, Code.INVALID, 0)
    else:
        connection.send(found)


def refuse(relay: Relay, connection: Connection, ref: int, code: Code, detail: int) -> None:
    """Answer that a request had no effect, and count it."""
    relay.count(f"refused_{code.name.lower()}")
    connection.refuse(ref, code, detail=detail)
