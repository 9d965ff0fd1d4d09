"""What the organisation's signed statements say, as this device keeps it and asks for more."""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Callable, Iterable

from client.errors import DamagedError, NewerVersionError, RefusedError
from client.followed import Wants
from client.judging import Judge, made_ms
from client.store import Store
from client.trusted import (
    KINDS,
    Rows,
    Taken,
    Trusted,
    knowing,
    learned,
    loaded,
    taken_in,
    unknown_signers,
    wanted_for,
)
from client.views import Control
from crypto.certificate import Root
from crypto.errors import DecodeError, InvalidError
from crypto.statement_types import StatementType
from crypto.trust import DeviceIdentity, Trust
from protocol import frames, limits
from protocol.frames import Frame
from protocol.identifiers import DeviceId, UserName
from protocol.oncall.kept import VersionError

Ask = Callable[[Callable[[int], Frame]], Awaitable[Frame]]
"""Sends a request on the present connection and returns its answer."""

CONTROL = "control"
LOOKED_UP = "looked up"
STANDING = "standing"
"""Rows of the cache, and the setting that says up to which number what stands is here."""

CONTROLS_KEPT = 10_000
"""Entries of the control log that stay readable on the device: years of a hospital's commands."""

FRESH_MS = 5_000
"""How long an answer of the directory is good for adding people, in ms: one act asks once."""

SIGNERS_DEEP = 8
"""How often a proof's signer may be vouched for by another unknown one: nobody's devices descend
from each other for longer."""

_NUMBER = struct.Struct("!Q")


class Book:
    """What is held true, on the disk as soon as it is here.

    Attributes:
        trusted: What is held true.
    """

    def __init__(self, store: Store, *, root: Root, me: DeviceId) -> None:
        """Read what the store holds.

        Raises:
            DamagedError: It is not what was written.
            NewerVersionError: A newer program wrote it.
        """
        self._store = store
        self._me = me
        rows = {(kind, row.key): row.value for kind in KINDS for row in store.cache.all(kind)}
        try:
            self.trusted: Trusted = loaded(Trust(root=root), rows)
        except VersionError as error:
            raise NewerVersionError(found=error.found, known=error.known) from None
        except (DecodeError, InvalidError):
            raise DamagedError("database") from None

    @property
    def judge(self) -> Judge:
        """What to follow with."""
        return Judge(trust=self.trusted.trust, me=self._me, policy=self.trusted.policy)

    def know(self, devices: Iterable[DeviceIdentity], *, now_ms: int) -> None:
        """Keep devices that were proved while following."""
        self._keep(*knowing(self.trusted, devices), now_ms=now_ms)

    def learn(self, certificates: Iterable[bytes], *, now_ms: int) -> None:
        """Keep the devices of certificates, as far as these are right."""
        self._keep(*learned(self.trusted, certificates), now_ms=now_ms)

    def take(self, statement: bytes, *, sequence: int, at_ms: int, now_ms: int) -> Taken | None:
        """Take in an entry of the control log, or a statement that stands; None for no statement.

        Args:
            statement: Its signers were looked up.
            sequence: In the control log; 0 for one that stands.
            at_ms: When the log took it in.
            now_ms: Now, where the log's time is ahead of it.
        """
        try:
            # It comes once: a device whose clock is behind must not pass it over for ever.
            seen_ms = made_ms(statement, self.trusted.trust, at_ms=min(at_ms, now_ms))
            taken = taken_in(self.trusted, statement, at_ms=seen_ms)
        except DecodeError:
            return None
        self._keep(taken.trusted, taken.rows, now_ms=now_ms)
        if sequence:
            self._note(
                Control(
                    sequence=sequence,
                    at_ms=at_ms,
                    type=taken.type,
                    statement=statement,
                    verified=taken.verified,
                )
            )
        return taken

    def controls(self, since: int) -> list[Control]:
        """Return the control log as it was read, behind a number."""
        rows = self._store.cache.all(CONTROL)
        found = (_control(row.key, row.value, row.at_ms) for row in rows)
        return [one for one in found if one.sequence > since]

    # -- asking --------------------------------------------------------------------------------

    async def look_up(self, users: Iterable[UserName], ask: Ask, *, now_ms: int) -> None:
        """Learn which devices people have.

        Raises:
            RefusedError: The relay does not say.
            LostError: The connection ended.
        """
        wanted = sorted(set(users))
        most = limits.LOOKUP_DEVICES
        parts = [wanted[start : start + most] for start in range(0, len(wanted), most)]
        while parts:
            part = tuple(parts.pop())
            answer = await ask(lambda ref, part=part: frames.Lookup(ref=ref, users=part))  # type: ignore[misc]
            if not isinstance(answer, frames.Directory):
                continue
            if len(answer.devices) >= most and len(part) > 1:
                # As full as an answer is: people of whom it has no more room are left out.
                middle = len(part) // 2
                parts += [list(part[:middle]), list(part[middle:])]
                continue
            found = [entry.certificate for entry in answer.devices]
            await self._learn_proved(found, ask, now_ms=now_ms)
        keys = {user.encode("ascii"): b"" for user in wanted}
        self._store.cache.update(LOOKED_UP, keys, at_ms=now_ms)

    def is_fresh(self, user: UserName, *, now_ms: int) -> bool:
        """Tell whether a person was looked up a short while ago."""
        row = self._store.cache.get(LOOKED_UP, user.encode("ascii"))
        return row is not None and now_ms - row.at_ms < FRESH_MS

    async def find_signers(self, statement: bytes, ask: Ask, *, now_ms: int) -> None:
        """Learn the certificates of whoever signed a statement.

        Raises:
            LostError: The connection ended.
        """
        wanted = unknown_signers(statement, self.trusted.trust)
        if wanted:
            await self._learn_proved(await _certificates(wanted, ask), ask, now_ms=now_ms)

    async def satisfy(self, wants: Wants, body: bytes, ask: Ask, *, now_ms: int) -> None:
        """Look up whoever an entry wants.

        Raises:
            LostError: The connection ended.
        """
        if wants.signers:
            await self.find_signers(body, ask, now_ms=now_ms)
        if wants.certificates:
            found = await _certificates(tuple(sorted(wants.certificates)), ask)
            await self._learn_proved(found, ask, now_ms=now_ms)
        try:
            await self.look_up(wants.users, ask, now_ms=now_ms)
        except RefusedError:
            return  # It is followed without them then, and not believed.

    async def _learn_proved(self, certificates: list[bytes], ask: Ask, *, now_ms: int) -> None:
        """Learn devices, and before them whoever signed their proofs."""
        given = list(certificates)
        for _ in range(SIGNERS_DEEP):
            wanted = wanted_for(given, self.trusted.trust)
            found = await _certificates(wanted, ask) if wanted else []
            if not found:
                break
            given = [*found, *given]
        self.learn(given, now_ms=now_ms)

    # -- the disk ------------------------------------------------------------------------------

    def _keep(self, trusted: Trusted, rows: Rows, *, now_ms: int) -> None:
        by_kind: dict[str, dict[bytes, bytes | None]] = {}
        for (kind, key), value in rows.items():
            by_kind.setdefault(kind, {})[key] = value
        for name, changes in by_kind.items():
            self._store.cache.update(name, changes, at_ms=now_ms)
        self.trusted = trusted

    def _note(self, control: Control) -> None:
        value = bytes((control.type, int(control.verified))) + control.statement
        changes: dict[bytes, bytes | None] = {_NUMBER.pack(control.sequence): value}
        if control.sequence > CONTROLS_KEPT:
            changes[_NUMBER.pack(control.sequence - CONTROLS_KEPT)] = None
        self._store.cache.update(CONTROL, changes, at_ms=control.at_ms)


def _control(key: bytes, value: bytes, at_ms: int) -> Control:
    return Control(
        sequence=_NUMBER.unpack(key)[0],
        at_ms=at_ms,
        type=StatementType(value[0]),
        statement=value[2:],
        verified=bool(value[1]),
    )


async def _certificates(fingerprints: tuple[bytes, ...], ask: Ask) -> list[bytes]:
    found: list[bytes] = []
    for start in range(0, len(fingerprints), limits.LOOKUP_DEVICES):
        part = fingerprints[start : start + limits.LOOKUP_DEVICES]
        try:
            answer = await ask(
                lambda ref, part=part: frames.LookupCertificates(ref=ref, fingerprints=part)  # type: ignore[misc]
            )
        except RefusedError:
            continue
        if isinstance(answer, frames.Directory):
            found += [entry.certificate for entry in answer.devices]
    return found
