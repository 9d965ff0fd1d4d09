"""Who is on call, as a device knows it from the control log: kept as rows, one for each change.

Pure. The device applies what the relay applied, as of the same time, so both answer alike. It keeps
the last month's editions; who was on call long ago is answered from the control log itself
(``rebuilt``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from crypto.errors import InvalidError
from crypto.statement import VerifiedStatement
from protocol.identifiers import RoleName, UserName
from protocol.oncall.commands import PersonalRequest, RoleCommand, decode_request
from protocol.oncall.configuration import OWN, Configuration, Holders, needed
from protocol.oncall.kept import read_plan, read_quiet, write_plan, write_quiet
from protocol.oncall.wall_clock import DAY_MS

KEPT_MS = 35 * DAY_MS
"""How far back a device keeps what was known, in ms: last month's shifts, to look at."""

PLAN, QUIET = b"o", b"u"
"""First octet of a row's key: a role, a person's quiet hours."""

Rows = Mapping[bytes, bytes]
"""Rows to write, by key; an empty value takes a row out."""


def commanded(
    configuration: Configuration, command: RoleCommand, *, at_ms: int
) -> tuple[Configuration, Rows]:
    """Return the configuration after a verified command, and what to write.

    Args:
        configuration: Before it.
        command: The body of the verified statement.
        at_ms: The time of its entry in the control log.

    Raises:
        InvalidError: It does not fit what came before: an entry is missing, or the relay lies.
    """
    return _kept(configuration.commanded(command, at_ms=at_ms), command.role, at_ms)


def requested(
    configuration: Configuration, verified: VerifiedStatement, *, holders: Holders, at_ms: int
) -> tuple[Configuration, Rows]:
    """Return the configuration after a verified request of a person, and what to write.

    Raises:
        DecodeError: Its body is no such request.
        InvalidError: It is not theirs to ask, or does not fit what came before.
    """
    identity = verified.signers[0].identity
    if identity is None:
        raise InvalidError("a person's request is signed by a device of theirs")
    request, user = decode_request(verified.body), UserName(identity.user)
    return _asked(configuration, request, user=user, holders=holders, at_ms=at_ms)


def _asked(
    configuration: Configuration,
    request: PersonalRequest,
    *,
    user: UserName,
    holders: Holders,
    at_ms: int,
) -> tuple[Configuration, Rows]:
    changed = configuration.requested(request, user=user, holders=holders, at_ms=at_ms)
    if isinstance(request, OWN):
        return changed, {QUIET + user.encode("ascii"): write_quiet(changed.quiets[user])}
    return _kept(changed, request.role, at_ms)


def _kept(changed: Configuration, role: RoleName, at_ms: int) -> tuple[Configuration, Rows]:
    key = PLAN + role.encode("ascii")
    plan = changed.plans.get(role)
    if plan is None:
        return changed, {key: b""}
    kept = needed(plan, at_ms - KEPT_MS)
    # An offer that nobody claimed is over whatever is kept of the past.
    kept = replace(
        kept,
        offers=tuple(one for one in kept.offers if one.until_ms > at_ms),
        proposals=tuple(one for one in kept.proposals if one.swap.begins_ms > at_ms),
    )
    return changed.with_plan(kept), {key: write_plan(kept)}


def loaded(rows: Rows) -> Configuration:
    """Return the configuration that rows hold.

    Raises:
        DecodeError: A row is none that was written here.
        VersionError: A newer program wrote one.
        InvalidError: What it holds breaks a rule.
    """
    configuration = Configuration()
    for key, value in sorted(rows.items()):
        if value and key.startswith(PLAN):
            configuration = configuration.with_plan(read_plan(value))
        elif value:
            user = UserName(key[1:].decode("ascii"))
            configuration = configuration.with_quiet(user, read_quiet(value))
    return configuration


def rebuilt(entries: Iterable[tuple[int, RoleCommand]], *, role: RoleName) -> Configuration:
    """Return one role with every edition of it that there ever was.

    Args:
        entries: Time and body of every verified command, in the order of the control log.
        role: The role.

    Raises:
        InvalidError: They do not follow from each other: some are missing.
    """
    configuration = Configuration()
    for at_ms, command in entries:
        if command.role == role:
            configuration = configuration.commanded(command, at_ms=at_ms)
    return configuration
