"""On call at the relay: who answers for which role now, from signed commands and nothing else.

A role and a person's quiet are facts beside the logs, written with the command's entry. Everything
that asks who is on call (routing, pages, attention) asks the configuration kept here.
"""

from __future__ import annotations

from dataclasses import dataclass

from protocol.errors import Code
from protocol.identifiers import RoleName, UserName
from protocol.oncall.commands import ClaimShift, PersonalRequest, RoleCommand
from protocol.oncall.configuration import OWN, Configuration, Holders
from protocol.oncall.kept import read_plan, read_quiet, write_plan, write_quiet
from protocol.oncall.role import Role, Roster
from server.answers import Refusal
from server.store import Fact

PLAN, QUIET = b"o", b"u"
"""First octet of a fact's key: a role, a person's quiet hours."""


@dataclass(slots=True, repr=False)
class Duty:
    """An organisation's configuration, and the roster of the moment made from it.

    Attributes:
        configuration: The roles and everybody's quiet hours; never changed in place.
        generation: Counts its changes, so that what was derived from it is known to be old.
    """

    configuration: Configuration
    generation: int = 0
    _links: dict[bytes, UserName] | None = None
    _roster: Roster | None = None
    _concerned: dict[UserName, dict[RoleName, Role]] | None = None
    _from_ms: int = 0
    _until_ms: int = 0
    _holders: Holders | None = None

    def change(self, configuration: Configuration) -> None:
        """Take over a changed configuration."""
        self.configuration = configuration
        self.generation += 1
        self._roster = None
        self._links = None

    def whose_link(self, hashed: bytes) -> UserName | None:
        """Return whose calendar link it is, by the hash of its secret."""
        if self._links is None:
            quiets = self.configuration.quiets.items()
            self._links = {own.link: user for user, own in quiets if own.link is not None}
        return self._links.get(hashed)

    def forget(self) -> None:
        """Note that the holders of a role have changed."""
        self.generation += 1
        self._roster = None

    def roster(self, now_ms: int, holders: Holders) -> Roster:
        """Return every role as it is now; made anew only where it may have changed."""
        if self._roster is None or not self._from_ms <= now_ms < self._until_ms:
            self._roster = self.configuration.roster(now_ms, holders)
            self._concerned = None
            coming = self.configuration.next_edition_ms(now_ms)
            self._from_ms, self._until_ms = now_ms, (1 << 63) if coming is None else coming
        return self._roster

    def concerning(self, user: UserName, now_ms: int, holders: Holders) -> Roster:
        """Return the roles that speak of a person: no other has anything to say of them."""
        roster = self.roster(now_ms, holders)
        if self._concerned is None:
            self._concerned = _by_person(roster)
        return self._concerned.get(user, _NO_ROLES)

    @property
    def in_use(self) -> bool:
        """Whether anybody is on call for anything, or wants to be left in peace."""
        return bool(self.configuration.plans or self.configuration.quiets)


_NO_ROLES: dict[RoleName, Role] = {}


def _by_person(roster: Roster) -> dict[UserName, dict[RoleName, Role]]:
    found: dict[UserName, dict[RoleName, Role]] = {}
    for name, role in roster.items():
        for user in role.schedule.people() | frozenset(role.fallback):
            found.setdefault(user, {})[name] = role
    return found


def commanded(
    configuration: Configuration, command: RoleCommand, *, at_ms: int
) -> tuple[Configuration, Fact]:
    """Return the configuration after an administrator's command, and the fact that keeps it.

    Raises:
        Refusal: Somebody else has changed the role meanwhile.
        InvalidError: The command breaks a rule.
    """
    present = configuration.version(command.role)
    if command.version != present + 1:
        raise Refusal(Code.STALE_VERSION, present)
    changed = configuration.commanded(command, at_ms=at_ms).needed(at_ms)
    return changed, plan_fact(changed, command.role)


def requested(
    configuration: Configuration,
    request: PersonalRequest,
    *,
    user: UserName,
    holders: Holders,
    at_ms: int,
) -> tuple[Configuration, Fact]:
    """Return the configuration after a person's request, and the fact that keeps it.

    Raises:
        Refusal: The shift is taken, or another device of theirs was first.
        InvalidError: The request is not theirs to make.
    """
    if isinstance(request, OWN):
        own = configuration.quiets.get(user)
        present = own.version if own else 0
        if request.version != present + 1:
            raise Refusal(Code.STALE_VERSION, present)
    elif isinstance(request, ClaimShift) and _is_gone(configuration, request.role, request.name):
        raise Refusal(Code.TAKEN)
    changed = configuration.requested(request, user=user, holders=holders, at_ms=at_ms)
    if isinstance(request, OWN):
        kept = changed.quiets[user]
        return changed, Fact(key=QUIET + user.encode(), value=write_quiet(kept))
    changed = changed.needed(at_ms)
    return changed, plan_fact(changed, request.role)


def _is_gone(configuration: Configuration, role: RoleName, name: str) -> bool:
    plan = configuration.plans.get(role)
    return plan is not None and all(offer.name != name for offer in plan.offers)


def plan_fact(configuration: Configuration, role: RoleName) -> Fact:
    """Return a role as it is stored, or its removal."""
    plan = configuration.plans.get(role)
    return Fact(key=PLAN + role.encode(), value=None if plan is None else write_plan(plan))


def load_plan(configuration: Configuration, value: bytes) -> Configuration:
    """Return the configuration with a stored role."""
    return configuration.with_plan(read_plan(value))


def load_quiet(configuration: Configuration, user: str, value: bytes) -> Configuration:
    """Return the configuration with a person's stored quiet hours."""
    return configuration.with_quiet(UserName(user), read_quiet(value))
