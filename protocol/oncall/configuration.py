"""What an organisation has on call: every role with its history, everybody's quiet hours.

It is made of the control log alone: the relay and every device apply the same statements in the
same order, each as of the time at which it was taken in, so all of them answer alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Annotated, Any

from crypto.codec import U64, Reader, Struct, optional_of, vector_of
from crypto.errors import InvalidError
from protocol.identifiers import RoleName, UserName
from protocol.oncall import commands
from protocol.oncall.commands import (
    IMPORTED,
    LINK_BYTES,
    AgreeSwap,
    ClaimShift,
    DropSwap,
    HandOver,
    HandOverShift,
    Number,
    OfferShift,
    PersonalRequest,
    RoleCommand,
    SetCalendarLink,
    SetQuietHours,
)
from protocol.oncall.delivery import Quiet
from protocol.oncall.escalation import Policy, Step
from protocol.oncall.history import Edition, History
from protocol.oncall.override import Override, Swap, TemporarySchedule
from protocol.oncall.role import Reach, Responder, Roster, Turn
from protocol.oncall.role import Role as RosterRole
from protocol.oncall.rotation import PEOPLE
from protocol.oncall.schedule import Layer, Schedule, on_call
from protocol.oncall.wall_clock import MINUTE_MS
from protocol.oncall.wire import (
    LATEST_MS,
    MaybeRole,
    Role,
    Text,
    User,
    Users,
    enum_of,
)

PROPOSALS = 64
"""Swaps of one role that wait for the second signature; those that have begun make room."""
OFFERS = 256
"""Shifts of one role on offer at a time; those that have passed make room."""
DEFAULT_DELAY_MS = MINUTE_MS
"""Wait of each step where a role has no policy of its own: what STAT needs."""
NO_QUIET = Quiet(zone="UTC")
"""Of somebody who has said nothing about it."""
OWN = (SetQuietHours, SetCalendarLink)
"""Requests that change what a person has for themself, and no role."""

Holders = Mapping[RoleName, tuple[UserName, ...]]
"""Who may hold which role."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer(Struct):
    """A shift that a holder of the role may take."""

    name: Text
    start_ms: U64
    end_ms: U64
    until_ms: U64


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal(Struct):
    """A swap that one of the two has signed; until the other has, both keep what they have.

    Attributes:
        swap: The swap.
        user: Who has signed it.
    """

    swap: Swap
    user: User

    @property
    def waits_for(self) -> UserName:
        """Who has not signed yet."""
        return self.swap.second if self.user == self.swap.first else self.swap.first


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan(Struct):
    """All that there is to a role.

    Attributes:
        role: Its name.
        version: Counts its changes.
        fallback: Who answers where nobody is on call.
        backup: The role whose people on call are this one's backup.
        owner: Who is told where something is wrong with its schedule.
        hand_over: Whether people may give their own shift away.
        policy: How pages to it escalate, where that was said.
        history: The editions of its schedule.
        offers: Shifts on offer.
        numbers: How the role and its people are called by telephone.
        proposals: Swaps that one of the two has signed.
    """

    role: Role
    version: U64
    fallback: Users
    backup: MaybeRole
    owner: User
    hand_over: Annotated[HandOver, enum_of(HandOver)]
    policy: Annotated[Policy | None, optional_of(Policy.read, Policy.encode)] = None
    history: History = field(default_factory=History)
    offers: Annotated[tuple[Offer, ...], vector_of(Offer.read, Offer.encode)] = ()
    numbers: Annotated[tuple[Number, ...], vector_of(Number.read, Number.encode)] = ()
    proposals: Annotated[tuple[Proposal, ...], vector_of(Proposal.read, Proposal.encode)] = ()

    def schedule(self, at_ms: int) -> Schedule:
        """Return the schedule that holds at an instant, as it is known now."""
        return self.history.schedule_at(at_ms, known_ms=LATEST_MS) or EMPTY

    def next_edition_ms(self, at_ms: int) -> int | None:
        """Return when another edition of the schedule comes into effect; None for never."""
        coming = (e.effective_ms for e in self.history.editions if e.effective_ms > at_ms)
        return min(coming, default=None)


EMPTY = Schedule(zone="UTC")
"""The schedule of a role that has none yet."""


def _read_hash(reader: Reader) -> bytes:
    return reader.take(LINK_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnQuiet(Struct):
    """What a person has set for themself, and how often.

    Attributes:
        version: Counts both.
        quiet: When they want to be left in peace.
        link: SHA-256 of the secret by which a calendar fetches their shifts; None for no link.
    """

    version: U64
    quiet: Quiet
    link: Annotated[bytes | None, optional_of(_read_hash, bytes)] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """Every role, and everybody's quiet hours; one value, replaced by each change.

    Attributes:
        plans: By role.
        quiets: By person.
    """

    plans: Mapping[RoleName, Plan] = field(default_factory=dict)
    quiets: Mapping[UserName, OwnQuiet] = field(default_factory=dict)

    def with_plan(self, plan: Plan) -> Configuration:
        """Return the configuration with a role as it now is."""
        return replace(self, plans=MappingProxyType({**self.plans, plan.role: plan}))

    def without_role(self, role: RoleName) -> Configuration:
        """Return the configuration without a role."""
        kept = {name: plan for name, plan in self.plans.items() if name != role}
        return replace(self, plans=MappingProxyType(kept))

    def with_quiet(self, user: UserName, quiet: OwnQuiet) -> Configuration:
        """Return the configuration with a person's quiet hours as they now are."""
        return replace(self, quiets=MappingProxyType({**self.quiets, user: quiet}))

    def quiet(self, user: UserName) -> Quiet:
        """Return when a person wants to be left in peace."""
        own = self.quiets.get(user)
        return NO_QUIET if own is None else own.quiet

    def version(self, role: RoleName) -> int:
        """Return how often a role was changed; 0 for one that there is not."""
        plan = self.plans.get(role)
        return 0 if plan is None else plan.version

    def roster(self, at_ms: int, holders: Holders) -> Roster:
        """Return every role as it is at an instant, by its name.

        A role that has holders and no schedule is one too: its holders are its fallback.
        """
        found = {
            role: RosterRole(name=role, schedule=EMPTY, fallback=users[:PEOPLE])
            for role, users in holders.items()
            if role not in self.plans
        }
        for role, plan in self.plans.items():
            found[role] = RosterRole(
                name=role,
                schedule=plan.schedule(at_ms),
                fallback=plan.fallback,
                backup=plan.backup,
            )
        return MappingProxyType(found)

    def next_edition_ms(self, at_ms: int) -> int | None:
        """Return until when ``roster`` gives the same; None for ever."""
        coming = (plan.next_edition_ms(at_ms) for plan in self.plans.values())
        return min((at for at in coming if at is not None), default=None)

    def policy(self, role: RoleName, turn: Turn = Turn.CURRENT) -> Policy:
        """Return how a page to a role escalates: its own policy, or the one that all have.

        Args:
            role: The role.
            turn: Whom the page is for: where that is not whoever is on call now, they are asked
                first, and then all goes its usual course.
        """
        policy = self._policy(role)
        if turn is Turn.CURRENT:
            return policy
        return policy.asking_first(Responder(reach=Reach.ROLE, name=role, turn=turn))

    def _policy(self, role: RoleName) -> Policy:
        plan = self.plans.get(role)
        if plan is not None and plan.policy is not None:
            return plan.policy
        turns = (Turn.CURRENT, Turn.BACKUP) if plan and plan.backup else (Turn.CURRENT,)
        steps = tuple(_step(role, turn) for turn in turns)
        return Policy(steps=steps, last_resort=_step(role, Turn.CURRENT))

    def commanded(self, command: RoleCommand, *, at_ms: int) -> Configuration:
        """Return the configuration after an administrator's command.

        Args:
            command: The command.
            at_ms: When it was taken in.

        Raises:
            InvalidError: There is no such role, its version is not the next, or the role that
                results breaks a rule.
        """
        if command.version != self.version(command.role) + 1:
            raise InvalidError("a role's version is the next one")
        plan = self.plans.get(command.role)
        if isinstance(command, commands.SetRole):
            return self.with_plan(_set_role(plan, command))
        if plan is None:
            raise InvalidError("a role is set before anything of it")
        if isinstance(command, commands.DeleteRole):
            return self.without_role(command.role)
        changed: Plan = _APPLY[type(command)](plan, command, at_ms)
        return self.with_plan(replace(changed, version=command.version))

    def requested(
        self, request: PersonalRequest, *, user: UserName, holders: Holders, at_ms: int
    ) -> Configuration:
        """Return the configuration after what a person asked for themself.

        Args:
            request: The request.
            user: Who signed it.
            holders: Who may hold which role.
            at_ms: When it was taken in.

        Raises:
            InvalidError: It is not theirs to ask, is not allowed, or comes too late.
        """
        if isinstance(request, OWN):
            return self.with_quiet(user, self._own(request, user))
        plan = self.plans.get(request.role)
        if plan is None:
            raise InvalidError("a shift is of a role that there is")
        asked = _Asked(user=user, holders=holders.get(request.role, ()), at_ms=at_ms)
        changed: Plan = _REQUESTED[type(request)](plan, request, asked)
        return self.with_plan(replace(changed, version=plan.version + 1))

    def _own(self, request: SetQuietHours | SetCalendarLink, user: UserName) -> OwnQuiet:
        own = self.quiets.get(user) or OwnQuiet(version=0, quiet=NO_QUIET)
        if request.version != own.version + 1:
            raise InvalidError("a person's version is the next one")
        if isinstance(request, SetQuietHours):
            return replace(own, version=request.version, quiet=request.quiet)
        return replace(own, version=request.version, link=request.link)

    def needed(self, now_ms: int) -> Configuration:
        """Return what answers for the present and the future alike, and forgets what was known."""
        plans = {role: needed(plan, now_ms) for role, plan in self.plans.items()}
        return replace(self, plans=MappingProxyType(plans))


def needed(plan: Plan, now_ms: int) -> Plan:
    """Return a role without what can never be an answer again."""
    offers = tuple(offer for offer in plan.offers if offer.until_ms > now_ms)
    proposals = tuple(one for one in plan.proposals if one.swap.begins_ms > now_ms)
    editions = plan.history.needed(now_ms)
    return replace(plan, history=History(editions=editions), offers=offers, proposals=proposals)


def _step(role: RoleName, turn: Turn) -> Step:
    responder = Responder(reach=Reach.ROLE, name=role, turn=turn)
    return Step(delay_ms=DEFAULT_DELAY_MS, responders=(responder,))


# Commands.


def _set_role(plan: Plan | None, command: commands.SetRole) -> Plan:
    return Plan(
        role=command.role,
        version=command.version,
        fallback=command.fallback,
        backup=command.backup,
        owner=command.owner,
        hand_over=command.hand_over,
        policy=None if plan is None else plan.policy,
        history=History() if plan is None else plan.history,
        offers=() if plan is None else plan.offers,
        numbers=() if plan is None else plan.numbers,
        proposals=() if plan is None else plan.proposals,
    )


def _edition(plan: Plan, schedule: Schedule, *, effective_ms: int, at_ms: int) -> Plan:
    """Return the plan with one more edition, known from now on."""
    # A clock that was set back makes nothing known before what was known already.
    editions = plan.history.editions
    recorded_ms = max(at_ms, editions[-1].recorded_ms) if editions else at_ms
    edition = Edition(recorded_ms=recorded_ms, effective_ms=effective_ms, schedule=schedule)
    return replace(plan, history=plan.history.with_edition(edition))


def _everywhere(
    plan: Plan, change: Callable[[Schedule], Schedule], *, at_ms: int, effective_ms: int | None
) -> Plan:
    """Change the schedule that holds, and every one that is to come.

    Args:
        plan: The role.
        change: What becomes of each schedule.
        at_ms: When it becomes known.
        effective_ms: From when on; None where the change says itself when, as those of a stack do.
    """
    from_ms = at_ms if effective_ms is None else effective_ms
    standing = plan.history.needed(from_ms) or (
        Edition(recorded_ms=at_ms, effective_ms=from_ms, schedule=EMPTY),
    )
    for edition in sorted(standing, key=lambda one: one.effective_ms):
        since_ms = edition.effective_ms
        if effective_ms is not None:
            since_ms = max(since_ms, effective_ms)
        plan = _edition(plan, change(edition.schedule), effective_ms=since_ms, at_ms=at_ms)
    return plan


def _set_schedule(plan: Plan, command: commands.SetSchedule, at_ms: int) -> Plan:
    return _edition(plan, command.schedule, effective_ms=command.effective_ms, at_ms=at_ms)


def _set_layer(plan: Plan, command: commands.SetLayer, at_ms: int) -> Plan:
    def change(schedule: Schedule) -> Schedule:
        return replace(schedule, layers=_with_layer(schedule.layers, command.layer))

    return _everywhere(plan, change, at_ms=at_ms, effective_ms=command.effective_ms)


def _with_layer(layers: tuple[Layer, ...], layer: Layer) -> tuple[Layer, ...]:
    if all(one.name != layer.name for one in layers):
        return (*layers, layer)
    return tuple(layer if one.name == layer.name else one for one in layers)


def _remove_layer(plan: Plan, command: commands.RemoveLayer, at_ms: int) -> Plan:
    def change(schedule: Schedule) -> Schedule:
        kept = tuple(layer for layer in schedule.layers if layer.name != command.name)
        return replace(schedule, layers=kept)

    if all(layer.name != command.name for layer in plan.schedule(command.effective_ms).layers):
        raise InvalidError("a layer that is removed is in the schedule")
    return _everywhere(plan, change, at_ms=at_ms, effective_ms=command.effective_ms)


def _add_change(plan: Plan, command: commands.AddChange, at_ms: int) -> Plan:
    return _everywhere(
        plan, lambda s: s.with_change(command.change), at_ms=at_ms, effective_ms=None
    )


def _remove_change(plan: Plan, command: commands.RemoveChange, at_ms: int) -> Plan:
    def change(schedule: Schedule) -> Schedule:
        there = any(one.name == command.name for one in schedule.stack)
        return schedule.without_change(command.name) if there else schedule

    held = plan.history.needed(at_ms)
    if not any(one.name == command.name for e in held for one in e.schedule.stack):
        raise InvalidError("a change that is removed is in the stack")
    return _everywhere(plan, change, at_ms=at_ms, effective_ms=None)


def _set_imported(plan: Plan, command: commands.SetImported, at_ms: int) -> Plan:
    bottom: tuple[TemporarySchedule, ...] = () if command.plan is None else (command.plan,)

    def change(schedule: Schedule) -> Schedule:
        above = (one for one in schedule.stack if one.name != IMPORTED)
        return replace(schedule, stack=(*bottom, *above))

    return _everywhere(plan, change, at_ms=at_ms, effective_ms=None)


def _set_policy(plan: Plan, command: commands.SetEscalationPolicy, _at_ms: int) -> Plan:
    return replace(plan, policy=command.policy)


def _set_numbers(plan: Plan, command: commands.SetNumbers, _at_ms: int) -> Plan:
    return replace(plan, numbers=command.numbers)


def _offer(plan: Plan, command: OfferShift, at_ms: int) -> Plan:
    standing = tuple(offer for offer in plan.offers if offer.until_ms > at_ms)
    if command.name in _names(replace(plan, offers=standing), at_ms) or len(standing) >= OFFERS:
        raise InvalidError("an offer's name is new, and offers are at most OFFERS")
    offer = Offer(
        name=command.name,
        start_ms=command.start_ms,
        end_ms=command.end_ms,
        until_ms=command.until_ms,
    )
    return replace(plan, offers=(*standing, offer))


def _names(plan: Plan, at_ms: int) -> set[str]:
    """Return what changes, offers and proposed swaps of a role are called."""
    swaps = (proposal.swap for proposal in plan.proposals)
    return {one.name for one in (*plan.offers, *swaps, *plan.schedule(at_ms).stack)}


def _withdraw(plan: Plan, command: commands.WithdrawShift, _at_ms: int) -> Plan:
    kept = tuple(offer for offer in plan.offers if offer.name != command.name)
    if len(kept) == len(plan.offers):
        raise InvalidError("a shift that is withdrawn is on offer")
    return replace(plan, offers=kept)


_APPLY: Mapping[type, Callable[[Plan, Any, int], Plan]] = MappingProxyType(
    {
        commands.SetSchedule: _set_schedule,
        commands.SetLayer: _set_layer,
        commands.RemoveLayer: _remove_layer,
        commands.AddChange: _add_change,
        commands.RemoveChange: _remove_change,
        commands.SetImported: _set_imported,
        commands.SetEscalationPolicy: _set_policy,
        commands.OfferShift: _offer,
        commands.WithdrawShift: _withdraw,
        commands.SetNumbers: _set_numbers,
    }
)


# What people ask for themselves.


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """Who asks, who may hold the role, and when."""

    user: UserName
    holders: tuple[UserName, ...]
    at_ms: int


def _handed_over(plan: Plan, request: HandOverShift, asked: _Asked) -> Plan:
    change, user, holders, at_ms = request.change, asked.user, asked.holders, asked.at_ms
    if plan.hand_over is HandOver.NOBODY:
        raise InvalidError("a shift is handed over where the role allows it")
    if change.removed != user or change.added not in holders:
        raise InvalidError("a person hands their own shift to a holder of the role")
    if change.end_ms <= at_ms:
        raise InvalidError("a shift is handed over before it ends")
    now = plan.schedule(max(at_ms, change.start_ms))
    if user not in on_call(now, max(at_ms, change.start_ms)):
        raise InvalidError("a shift that is handed over is the person's own")
    # What has passed stays as it was.
    late = replace(change, start_ms=max(change.start_ms, at_ms))
    return _everywhere(plan, lambda s: s.with_change(late), at_ms=at_ms, effective_ms=None)


def _agreed(plan: Plan, request: AgreeSwap, asked: _Asked) -> Plan:
    """Take a swap in as one of the two signs it; the other's signature of the same makes it true.

    Who has which shift is looked at both times: what was true when it was proposed may be no more.
    """
    swap, at_ms = request.swap, asked.at_ms
    standing = tuple(one for one in plan.proposals if one.swap.begins_ms > at_ms)
    if plan.hand_over is HandOver.NOBODY:
        raise InvalidError("shifts are swapped where the role allows it")
    both = {swap.first, swap.second}
    if asked.user not in both or not both <= {*asked.holders}:
        raise InvalidError("two holders of the role swap, and each signs for themself")
    if swap.begins_ms <= at_ms:
        raise InvalidError("a swap is agreed before the first of its shifts begins")
    _check_theirs(plan, swap)
    proposed = Proposal(swap=swap, user=asked.user)
    pending = next((one for one in standing if one.swap.name == swap.name), None)
    if pending is None:
        if swap.name in _names(plan, at_ms) or len(standing) >= PROPOSALS:
            raise InvalidError("a swap's name is new, and those proposed are at most PROPOSALS")
        return replace(plan, proposals=(*standing, proposed))
    if pending.swap != swap or pending.user == asked.user:
        raise InvalidError("each of the two signs a swap once, and both the same")
    agreed = replace(plan, proposals=tuple(one for one in standing if one is not pending))
    return _everywhere(agreed, lambda s: s.with_change(swap), at_ms=at_ms, effective_ms=None)


def _check_theirs(plan: Plan, swap: Swap) -> None:
    spans = ((swap.first, swap.first_start_ms), (swap.second, swap.second_start_ms))
    if any(user not in on_call(plan.schedule(at_ms), at_ms) for user, at_ms in spans):
        raise InvalidError("each of the two has the shift that they give")


def _dropped(plan: Plan, request: DropSwap, asked: _Asked) -> Plan:
    pending = next((one for one in plan.proposals if one.swap.name == request.name), None)
    if pending is None or asked.user not in (pending.swap.first, pending.swap.second):
        raise InvalidError("one of the two drops a swap that is proposed")
    return replace(plan, proposals=tuple(one for one in plan.proposals if one is not pending))


def _claimed(plan: Plan, request: ClaimShift, asked: _Asked) -> Plan:
    user, holders, at_ms = asked.user, asked.holders, asked.at_ms
    offer = next((one for one in plan.offers if one.name == request.name), None)
    if offer is None or at_ms >= offer.until_ms:
        raise InvalidError("a shift that is claimed is on offer")
    if user not in holders:
        raise InvalidError("a shift is claimed by a holder of the role")
    change = Override(name=offer.name, start_ms=offer.start_ms, end_ms=offer.end_ms, added=user)
    taken = replace(plan, offers=tuple(one for one in plan.offers if one is not offer))
    return _everywhere(taken, lambda s: s.with_change(change), at_ms=at_ms, effective_ms=None)


_REQUESTED: Mapping[type, Callable[[Plan, Any, _Asked], Plan]] = MappingProxyType(
    {HandOverShift: _handed_over, ClaimShift: _claimed, AgreeSwap: _agreed, DropSwap: _dropped}
)
