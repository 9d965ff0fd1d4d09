"""One connection of a device to its relay: proved by keys, trusted by the pin, and by nothing else.

No certificate authority is asked: what TLS shows must have the pin of the invitation, and what the
relay signs for in its ``Challenge`` must be that pin too, so that nobody stands between. Compared
before the device says who it is.

Whoever stops reading stops the relay from sending: frames that wait are bounded in bytes. Answers
come in the same stream, so while one is awaited reading goes on, up to a second, larger bound;
beyond it the connection is given up, and what was not acknowledged comes again on the next.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from client.errors import (
    ClosedError,
    ImpostorError,
    LostError,
    RefusedError,
    UnreachableError,
)
from crypto.ed25519 import SigningKey
from crypto.errors import DecodeError, InvalidError
from crypto.tls_certificate import tls_pin
from protocol import frames, limits
from protocol.errors import Code, RemoteProtocolError
from protocol.frames import Challenge, Frame, Hello, Sender
from protocol.identifiers import DeviceId, OrganisationId, inbox_log, log_id
from protocol.proof import connection_proof, device_proof
from protocol.session import VERSION, Session, State

PATH = "/v1/stream"

OPEN_S = 15.0
"""Seconds in which a relay must have let a device in: a handshake over a bad mobile network."""

ANSWER_S = 60.0
"""Seconds in which a request is answered: the relay may hash a password behind others."""

CLOSE_S = 2.0
"""Seconds that the relay gets to answer the end of a connection."""

WAITING_BYTES = 1 << 20
"""Frames that wait to be received, in bytes, above which nothing more is read."""

WAITING_MOST_BYTES = 8 * limits.FRAME_BYTES
"""The same while an answer is awaited behind them; beyond it the connection is given up. What the
relay had on its way when it was asked is far below this."""

STEADY_S = 60.0
"""Seconds after which a connection counts as good, and pauses begin small again."""

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 60.0
"""Pauses between attempts double from the first to the longest, in seconds."""

ASKED_MOST_S = 60.0
"""Longest pause, in seconds, that a relay may ask for, which asks for two when it is in need: one
that lies would else keep its devices from the relay that takes its place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a relay is, and how it is recognised.

    Attributes:
        host: DNS name or address.
        port: TCP port.
        tls_pin: SHA-256 of the relay's SubjectPublicKeyInfo, 32 bytes.
        organisation: The organisation there.
    """

    host: str
    port: int
    tls_pin: bytes = field(repr=False)
    organisation: OrganisationId = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Credentials:
    """As whom a device connects.

    Attributes:
        device: Its name.
        certificate: DER; empty where it is still to be issued.
        request: A certificate request, to enrol or to renew; else empty.
        connection_key: Outside the locked store.
        signature_key: Inside it; ``None`` while it is locked.
    """

    device: DeviceId
    certificate: bytes
    connection_key: SigningKey
    signature_key: SigningKey | None
    request: bytes = b""


class Backoff:
    """Pauses between attempts to connect: longer with each failure, and never all at once."""

    def __init__(self) -> None:
        self._failures = 0

    def pause_s(self, *, at_least_ms: int = 0) -> float:
        """Return the seconds to wait before the next attempt, and expect it to fail.

        A random half of it keeps a ward's devices from coming back in one moment.

        Args:
            at_least_ms: What the relay asked for, where it closed with a pause.
        """
        most_s = min(FIRST_PAUSE_S * (1 << min(self._failures, 16)), LONGEST_PAUSE_S)
        self._failures += 1
        spread = random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, protects nothing
        asked_s = min(at_least_ms / 1000, ASKED_MOST_S)
        return max(most_s, asked_s) * spread + asked_s / 2

    def held(self, seconds: float) -> None:
        """Note how long a connection was open; a steady one is forgotten as a failure."""
        if seconds >= STEADY_S:
            self._failures = 0


class _Waiting:
    """Frames that wait to be received, in order, bounded in bytes."""

    def __init__(self) -> None:
        self._frames: deque[tuple[Frame, int]] = deque()
        self._came = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._ended: Callable[[], LostError] | None = None
        self.size = 0

    def add(self, frame: Frame, size: int) -> None:
        """Let a frame wait."""
        self._frames.append((frame, size))
        self.size += size
        if self.size >= WAITING_BYTES:
            self._room.clear()
        self._came.set()

    def end(self, error: Callable[[], LostError]) -> None:
        """Let nothing more come."""
        self._ended = error
        self._came.set()
        self._room.set()

    def make_room(self) -> None:
        """Let reading go on, whatever waits."""
        self._room.set()

    async def room(self) -> None:
        """Return once more may be read."""
        await self._room.wait()

    async def take(self) -> Frame:
        """Return the next frame; those that came before the end are still given."""
        while (frame := self.take_now()) is None:
            self._came.clear()
            await self._came.wait()
        return frame

    def take_now(self) -> Frame | None:
        """Return the next frame, or None where none waits."""
        if not self._frames:
            if self._ended is not None:
                raise self._ended()
            return None
        frame, size = self._frames.popleft()
        self.size -= size
        if self.size < WAITING_BYTES:
            self._room.set()
        return frame


class Link:
    """One connection, from its proof to its end; for one event loop.

    ``receive`` is for one task; ``ask`` and ``send`` are for any number.

    Attributes:
        token: For the attachment routes, while the connection is open.
        last_id: The last message id that the relay has accepted of this device.
        now_ms: The relay's clock when it opened the connection.
        root: The root certificate, DER, as the relay gives it to a device that enrols: unchecked.
    """

    def __init__(self, socket: ClientConnection, address: Address, device: DeviceId) -> None:
        self.address = address
        self.device = device
        self.token = b""
        self.last_id = 0
        self.now_ms = 0
        self.root = b""
        self._socket = socket
        self._session = Session(Sender.CLIENT)
        self._opening: tuple[Hello, Challenge] | None = None
        self._waiting = _Waiting()
        self._asked: dict[int, asyncio.Future[Frame]] = {}
        self._in_flight = asyncio.Semaphore(limits.IN_FLIGHT_REQUESTS)
        self._moved = asyncio.Event()
        self._ref = 0
        self._ended: Callable[[], LostError] | None = None
        self._reading: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, address: Address, credentials: Credentials) -> Link:
        """Return a connection on which the device is proved; ``state`` says what it may do.

        Raises:
            UnreachableError: There is no relay there now.
            ImpostorError: Something else than the pinned relay is there.
            ClosedError: The relay does not let the device in; its code says why.
            LostError: The connection ended before it stood.
        """
        socket = await _connected(address)
        link = cls(socket, address, credentials.device)
        try:
            async with asyncio.timeout(OPEN_S):
                await link._prove(credentials)
        except TimeoutError:
            await link.close()
            raise UnreachableError from None
        except BaseException:
            await link.close()
            raise
        link._reading = asyncio.create_task(link._read())
        return link

    @property
    def state(self) -> State:
        """Where the connection stands."""
        return self._session.state

    async def receive(self) -> Frame:
        """Return the next frame that answers no request.

        Raises:
            LostError: The connection has ended, and all that came before was received.
        """
        return await self._waiting.take()

    def receive_now(self) -> Frame | None:
        """Return the next frame that answers no request, or None where none has come.

        Raises:
            LostError: The connection has ended, and all that came before was received.
        """
        return self._waiting.take_now()

    async def send(self, frame: Frame) -> None:
        """Send a frame; waits where the relay reads slower than this device writes.

        Raises:
            LostError: The connection has ended.
            LocalProtocolError: The frame is not allowed in this state: a bug of the caller's.
        """
        if self._ended is not None:
            raise self._ended()
        data = self._session.send(frame)
        try:
            await self._socket.send(data)
        except (OSError, WebSocketException):
            raise self._lost() from None

    async def ask(self, make: Callable[[int], Frame]) -> Frame:
        """Send a request and return its answer.

        Args:
            make: Returns the request with the reference that it is given.

        Raises:
            RefusedError: The request had no effect.
            LostError: The connection ended, and whether it had an effect is not known.
            LocalProtocolError: The frame is not allowed in this state: a bug of the caller's.
        """
        async with self._in_flight:
            self._ref += 1
            ref = self._ref
            answer: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
            self._asked[ref] = answer
            self._waiting.make_room()
            try:
                await self.send(make(ref))
                async with asyncio.timeout(ANSWER_S):
                    frame = await answer
            except TimeoutError:
                await self.close()
                raise LostError from None
            finally:
                del self._asked[ref]
        if isinstance(frame, frames.Refused):
            raise RefusedError(_code(frame.code), frame.detail)
        return frame

    async def tell(self, make: Callable[[int], Frame]) -> None:
        """Send a request whose answer nobody waits for.

        Args:
            make: Returns the request with the reference that it is given.

        Raises:
            LostError: The connection has ended.
            LocalProtocolError: The frame is not allowed in this state: a bug of the caller's.
        """
        self._ref += 1
        await self.send(make(self._ref))

    async def authenticate(self, password: str, code: str) -> None:
        """Prove password and one-time code; a device that was away for long is then let in.

        Raises:
            RefusedError: One is wrong, or it is too early for another try.
            LostError: The connection ended.
        """
        await self.ask(lambda ref: frames.Authenticate(ref=ref, password=password, code=code))
        await self._reach(State.LOCKED, State.OPEN)

    async def unlock(self, signature_key: SigningKey) -> None:
        """Prove the device's own key, once its store was opened on this connection.

        Raises:
            LostError: The connection ended.
            LocalProtocolError: It is not locked.
        """
        hello, challenge = cast("tuple[Hello, Challenge]", self._opening)
        signature = signature_key.sign(device_proof(hello, challenge))
        await self.send(frames.Unlock(signature=signature))
        await self._reach(State.OPEN)

    async def close(self) -> None:
        """End the connection."""
        self._end(LostError)
        if self._reading is not None:
            self._reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reading
        await self._socket.close()

    # Opening.

    async def _prove(self, credentials: Credentials) -> None:
        hello = Hello(
            versions=(VERSION,),
            organisation=self.address.organisation,
            device=credentials.device,
            nonce=secrets.token_bytes(frames.NONCE_BYTES),
            certificate=credentials.certificate,
            request=credentials.request,
        )
        await self.send(hello)
        challenge = await self._next()
        if not isinstance(challenge, Challenge):
            raise self._lost()
        if challenge.pin != self.address.tls_pin:
            raise ImpostorError
        self._opening = hello, challenge
        key = credentials.signature_key
        signature = b"" if key is None else key.sign(device_proof(hello, challenge))
        proof = connection_proof(hello, challenge)
        await self.send(
            frames.Prove(
                connection_signature=credentials.connection_key.sign(proof),
                device_signature=signature,
            )
        )
        await self._next()

    async def _next(self) -> Frame:
        """Return one frame of the opening."""
        try:
            frame = self._take(await self._socket.recv())
        except (OSError, WebSocketException):
            raise self._lost() from None
        except RemoteProtocolError as error:
            raise LostError(broke=error.code) from None
        if self._ended is not None:
            raise self._ended()
        return frame

    # What comes.

    async def _read(self) -> None:
        """Take in frames until the connection ends, however it does."""
        try:
            while self._ended is None:
                if not self._asked:
                    await self._waiting.room()
                data = await self._socket.recv()
                self._sort(self._take(data), len(data))
        except RemoteProtocolError as error:
            code = error.code
            self._end(lambda: LostError(broke=code))
        except (OSError, WebSocketException):
            pass
        finally:
            self._end(LostError)
            await self._socket.close()

    def _take(self, data: bytes | str) -> Frame:
        """Return a frame, having noted what it says of the connection itself."""
        if isinstance(data, str):
            raise RemoteProtocolError(Code.MALFORMED)
        before = self.state
        frame = self._session.receive(data)
        if isinstance(frame, frames.Deliver | frames.Ended | frames.Behind):
            _check_log(frame.log, self.device)
        if isinstance(frame, frames.Deliver) and frame.predecessor >= frame.sequence:
            raise RemoteProtocolError(Code.MALFORMED)
        if isinstance(frame, frames.Opened):
            self.token, self.now_ms, self.last_id = frame.token, frame.now_ms, frame.last_id
        elif isinstance(frame, frames.Enrolling):
            self.root = frame.root
        elif isinstance(frame, frames.Close):
            code, detail = _code(frame.code), frame.detail
            self._end(lambda: ClosedError(code, detail))
        if self.state is not before:
            self._moved.set()
        return frame

    def _sort(self, frame: Frame, size: int) -> None:
        """Hand an answer to whoever asked, and let everything else wait."""
        ref = getattr(frame, "ref", 0)
        if ref:
            # Who asked may have gone meanwhile.
            asked = self._asked.get(ref)
            if asked is not None and not asked.done():
                asked.set_result(frame)
        elif not isinstance(frame, frames.Close | frames.Opened | frames.Locked):
            self._waiting.add(frame, size)
            if self._waiting.size > WAITING_MOST_BYTES:
                self._end(LostError)

    # Its end.

    async def _reach(self, *states: State) -> None:
        """Return once the connection stands in one of ``states``.

        Raises:
            LostError: It ended, or got there too late.
        """
        try:
            async with asyncio.timeout(ANSWER_S):
                while self.state not in states and self._ended is None:
                    self._moved.clear()
                    await self._moved.wait()
        except TimeoutError:
            await self.close()
        if self._ended is not None:
            raise self._ended()

    def _lost(self) -> LostError:
        self._end(LostError)
        return cast("Callable[[], LostError]", self._ended)()

    def _end(self, error: Callable[[], LostError]) -> None:
        """Tell everybody who waits; the first reason counts."""
        if self._ended is not None:
            return
        self._ended = error
        self.token = b""
        self._session.state = State.CLOSED
        self._waiting.end(error)
        self._moved.set()
        for asked in self._asked.values():
            if not asked.done():
                asked.set_exception(error())


def tls_context() -> ssl.SSLContext:
    """Return a context for TLS 1.3 alone, with no opinion on certificates: see ``check_pin``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def check_pin(session: ssl.SSLObject | ssl.SSLSocket, pin: bytes) -> None:
    """Refuse a peer whose TLS key is not the pinned one; before anything is said to it.

    Raises:
        ImpostorError: It is another.
    """
    der = session.getpeercert(binary_form=True)
    try:
        shown = tls_pin(ssl.DER_cert_to_PEM_cert(der).encode()) if der else b""
    except DecodeError:
        # TLS takes certificates that no X.509 parser does; the relay's own is none of them.
        shown = b""
    if shown != pin:
        raise ImpostorError


async def _connected(address: Address) -> ClientConnection:
    host = f"[{address.host}]" if ":" in address.host else address.host
    try:
        socket = await connect(
            f"wss://{host}:{address.port}{PATH}",
            ssl=tls_context(),
            # Named apart from the URI, so that no answer can lead elsewhere.
            host=address.host,
            port=address.port,
            compression=None,
            max_size=limits.FRAME_BYTES,
            open_timeout=OPEN_S,
            ping_interval=limits.PING_S,
            ping_timeout=limits.PING_S,
            close_timeout=CLOSE_S,
            user_agent_header=None,
            proxy=None,
            # Its own tells, at DEBUG, the beginnings of frames.
            logger=_silent(),
        )
    except (OSError, ValueError, WebSocketException):
        raise UnreachableError from None
    try:
        check_pin(socket.transport.get_extra_info("ssl_object"), address.tls_pin)
    except ImpostorError:
        socket.transport.abort()
        raise
    return socket


def _silent() -> logging.Logger:
    logger = logging.getLogger("wardline.websocket")
    logger.disabled = True
    return logger


def _check_log(log: bytes, device: DeviceId) -> None:
    """Refuse a log that can be none of a device's: whoever takes the entry works with it.

    Raises:
        RemoteProtocolError: It is none.
    """
    try:
        log_id(log)
    except InvalidError:
        raise RemoteProtocolError(Code.MALFORMED) from None
    if log.startswith(b"i") and log != inbox_log(device):
        raise RemoteProtocolError(Code.MALFORMED)


def _code(number: int) -> Code:
    """Return a code; one that this version does not know says no more than that of a fault."""
    try:
        return Code(number)
    except ValueError:
        return Code.INVALID
