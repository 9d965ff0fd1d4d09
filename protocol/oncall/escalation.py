"""Escalation policies: who is asked, in which order, how long each is waited for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Annotated

from crypto.codec import U8, U32, Struct, vector_of
from crypto.errors import InvalidError
from protocol.oncall.role import Responder
from protocol.oncall.rotation import PEOPLE
from protocol.oncall.wall_clock import HOUR_MS, MINUTE_MS
from protocol.oncall.wire import enum_of

MIN_DELAY_MS = 15_000
"""Shortest wait of a step: below it nobody could take the telephone out and answer."""
MAX_DELAY_MS = 24 * HOUR_MS
"""Longest wait of a step."""
STEPS = 16
"""Steps of a policy."""
REPEATS = 5
"""Further rounds through the steps, as many as GoAlert has."""
RESPONDERS = 16
"""Responders of one step."""
COURSE_MS = 72 * HOUR_MS
"""Longest course of a policy from the first step to the end: a page has an end."""
MIN_RE_ARM_MS = 5 * MINUTE_MS
"""Shortest time to get from accepting to done: whoever is on the way is not asked again."""

_RESPONDERS = vector_of(Responder.read, Responder.encode)


class Acknowledgement(IntEnum):
    """Whose acceptance ends the escalation."""

    ANY = 0
    ALL = 1
    K_OF_N = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(Struct):
    """Who is asked at once, and how long they are waited for.

    Attributes:
        delay_ms: Time for an answer before the next step, ``MIN_DELAY_MS`` to ``MAX_DELAY_MS``.
        responders: Who is asked.
    """

    delay_ms: U32
    responders: Annotated[tuple[Responder, ...], _RESPONDERS]

    def __post_init__(self) -> None:
        if not MIN_DELAY_MS <= self.delay_ms <= MAX_DELAY_MS:
            raise InvalidError("a step waits MIN_DELAY_MS to MAX_DELAY_MS")
        if not 1 <= len(self.responders) <= RESPONDERS:
            raise InvalidError("a step has 1 to RESPONDERS responders")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy(Struct):
    """How a page escalates.

    Attributes:
        steps: The steps, in order.
        repeats: Further rounds through them, 0 to ``REPEATS``.
        last_resort: Asked when all rounds are over: the supervisor. A role's fallback counts as on
            call here, so that there is always somebody.
        acknowledgement: Whose acceptance ends the escalation.
        quorum: The k of ``K_OF_N``, from 2, counted over all steps; 1 otherwise.
        re_arm_ms: Time from accepting to done before the page is open again; 0 for never.
    """

    steps: Annotated[tuple[Step, ...], vector_of(Step.read, Step.encode)]
    repeats: U8 = 0
    last_resort: Step
    acknowledgement: Annotated[Acknowledgement, enum_of(Acknowledgement)] = Acknowledgement.ANY
    quorum: U8 = 1
    re_arm_ms: U32 = 0

    def __post_init__(self) -> None:
        if not 1 <= len(self.steps) <= STEPS or self.repeats > REPEATS:
            raise InvalidError("a policy has 1 to STEPS steps and at most REPEATS repeats")
        of_several = self.acknowledgement is Acknowledgement.K_OF_N
        if not (2 <= self.quorum <= PEOPLE if of_several else self.quorum == 1):
            raise InvalidError("a quorum is 2 to PEOPLE, and 1 where none is asked for")
        if self.re_arm_ms and not MIN_RE_ARM_MS <= self.re_arm_ms <= MAX_DELAY_MS:
            raise InvalidError("a page is armed again after MIN_RE_ARM_MS to MAX_DELAY_MS")
        if self.course_ms > COURSE_MS:
            raise InvalidError("a policy is through all of its steps within COURSE_MS")

    @property
    def course_ms(self) -> int:
        """Time from the first step to giving up, in ms, where nobody answers."""
        once = sum(step.delay_ms for step in self.steps)
        return once * (1 + self.repeats) + self.last_resort.delay_ms

    @property
    def last_position(self) -> int:
        """The position of the last resort, counting every step of every round from 0."""
        return len(self.steps) * (1 + self.repeats)

    def asking_first(self, responder: Responder) -> Policy:
        """Return the policy with a step before all others, which waits as long as its first.

        Where there is no room for one more, it takes the place of the first.
        """
        first = Step(delay_ms=self.steps[0].delay_ms, responders=(responder,))
        more_ms = first.delay_ms * (1 + self.repeats)
        full = len(self.steps) == STEPS or self.course_ms + more_ms > COURSE_MS
        return replace(self, steps=(first, *self.steps[1 if full else 0 :]))

    def step(self, position: int) -> Step:
        """Return the step at a position."""
        if position >= self.last_position:
            return self.last_resort
        return self.steps[position % len(self.steps)]
