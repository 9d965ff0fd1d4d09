"""TLS of the listening socket: 1.3 alone, in the memory that ten thousand idle devices leave.

uvloop's own TLS keeps 256 KiB for each connection to read into, all of it touched where memory is
overwritten as it is freed (``server.__main__``). asyncio's is used instead, and what arrives is
read into one buffer for all: it is handed on before the next connection is read.
"""

from __future__ import annotations

import asyncio
import ssl
from asyncio.sslproto import SSLProtocol
from pathlib import Path

from protocol import limits

READ_BYTES = 256 * 1024
"""Bytes of one read from a socket: uvloop's own measure."""

RECORD_BYTES = 16 * 1024
"""Bytes that one TLS record holds at most (RFC 8446, section 5.1), and so one read of its text."""

_arriving = memoryview(bytearray(READ_BYTES))


def tls_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return a server's context for TLS 1.3 and nothing older."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # Session tickets cost a write and memory for each connection; devices stay connected for hours.
    context.num_tickets = 0
    context.load_cert_chain(certificate, key)
    return context


class Encrypted(SSLProtocol):
    """A connection whose TLS handshake must be done within ``SILENT_CONNECTION_S``."""

    max_size = RECORD_BYTES

    def __init__(
        self,
        inner: asyncio.Protocol,
        context: ssl.SSLContext,
        *,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(
            loop,
            inner,
            context,
            None,  # type: ignore[arg-type]  # nobody waits for the handshake
            server_side=True,
            ssl_handshake_timeout=limits.SILENT_CONNECTION_S,
        )
        self._ssl_buffer = bytearray()
        self._ssl_buffer_view = _arriving

    def get_buffer(self, n: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        """Return where the next bytes are to be read to; ``buffer_updated`` follows at once."""
        return _arriving
