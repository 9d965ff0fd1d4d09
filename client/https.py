"""Requests beside the stream, over HTTPS to the pinned relay: invitations and attachments.

The standard library's client in a thread: bodies are at most a piece of an attachment, and nothing
of an answer is read beyond what was asked for. The pin is compared before the first byte of a
request, which carries a token or a proof.

A thread cannot be cancelled. Who gives a request up leaves its connection to the thread, which
finds it shut and closes it; the next request has another.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPSConnection

from client.errors import UnreachableError
from client.link import Address, check_pin, tls_context

REQUEST_S = 30.0
"""Seconds without a byte after which a request is given up: two dead pings' time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the relay answered.

    Attributes:
        status: HTTP's.
        headers: By name in lower case.
        body: As much of it as was wanted.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


class _Pinned(HTTPSConnection):
    """A connection that says nothing to another key than the pinned one.

    One thread at a time exchanges over it; from any other it can be left.
    """

    def __init__(self, address: Address) -> None:
        super().__init__(address.host, address.port, timeout=REQUEST_S, context=tls_context())
        self._pin = address.tls_pin
        self._in_use = threading.Lock()
        self._left = False

    def connect(self) -> None:
        super().connect()
        try:
            check_pin(self.sock, self._pin)
            if self._left:
                raise UnreachableError
        except UnreachableError:
            self.close()
            raise

    def leave(self) -> None:
        """Let nothing remain of it: now, or as soon as the thread that is at it has noticed."""
        self._left = True
        if self._in_use.acquire(blocking=False):
            self._in_use.release()
            self.close()
        elif (held := self.sock) is not None:
            # TLS's own shutdown would drop its session, and what is written next would be plain.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(held, socket.SHUT_RDWR)

    def exchange(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None, most: int
    ) -> Answer:
        """Return the answer to one request; blocks."""
        try:
            with self._in_use:
                return self._exchange(method, path, headers, body, most)
        finally:
            # Asked only once it is no longer in use: who leaves it before that leaves it to this.
            if self._left:
                self.close()

    def _exchange(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None, most: int
    ) -> Answer:
        if self._left:
            raise UnreachableError
        try:
            self.request(method, path, body=body, headers=dict(headers))
            response = self.getresponse()
            content = response.read(most + 1)
            answer = Answer(
                status=response.status,
                headers={name.lower(): value for name, value in response.getheaders()},
                body=content,
            )
        except (OSError, ValueError, HTTPException):
            self.close()
            raise UnreachableError from None
        except UnreachableError:
            self.close()
            raise
        if len(content) > most:
            self.close()
            raise UnreachableError
        return answer


class Https:
    """A relay's HTTP side, for one request after another over one connection."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._connection = _Pinned(address)
        self._turn = asyncio.Lock()

    async def request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        most: int = 0,
    ) -> Answer:
        """Return what the relay answers.

        Args:
            method: HTTP's.
            path: From the root.
            headers: Beside those that every request has.
            body: What to send.
            most: Bytes of the answer that are wanted; a longer one is an error.

        Raises:
            UnreachableError: The relay is not reached, breaks off, or answers what is no answer.
            ImpostorError: Something else than the pinned relay is there.
        """
        async with self._turn:
            try:
                return await asyncio.to_thread(
                    self._connection.exchange, method, path, headers, body, most
                )
            except asyncio.CancelledError:
                self.close()
                raise

    def close(self) -> None:
        """Let go of the connection; a request that comes later makes another."""
        self._connection.leave()
        self._connection = _Pinned(self._address)
