"""Requests beside the stream, over HTTPS to the pinned relay: invitations and attachments.

The standard library's client in a thread: bodies are at most a piece of an attachment, and nothing
of an answer is read beyond what was asked for. The pin is compared before the first byte of a
request, which carries a token or a proof.
"""

from __future__ import annotations

import asyncio
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
    """A connection that says nothing to another key than the pinned one."""

    def __init__(self, address: Address) -> None:
        super().__init__(address.host, address.port, timeout=REQUEST_S, context=tls_context())
        self._pin = address.tls_pin

    def connect(self) -> None:
        super().connect()
        try:
            check_pin(self.sock, self._pin)
        except UnreachableError:
            self.close()
            raise


class Https:
    """A relay's HTTP side, for one request after another over one connection."""

    def __init__(self, address: Address) -> None:
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
            return await asyncio.to_thread(self._request, method, path, headers, body, most)

    async def close(self) -> None:
        """Let go of the connection."""
        async with self._turn:
            self._connection.close()

    def _request(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None, most: int
    ) -> Answer:
        try:
            self._connection.request(method, path, body=body, headers=dict(headers))
            response = self._connection.getresponse()
            content = response.read(most + 1)
            answer = Answer(
                status=response.status,
                headers={name.lower(): value for name, value in response.getheaders()},
                body=content,
            )
        except (OSError, ValueError, HTTPException):
            self._connection.close()
            raise UnreachableError from None
        except UnreachableError:
            self._connection.close()
            raise
        if len(content) > most:
            self._connection.close()
            raise UnreachableError
        return answer
