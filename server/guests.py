"""Emergency access at the relay: it refuses what no member could accept, and what policy denies."""

from __future__ import annotations

from collections.abc import Collection

from crypto.errors import DecodeError, InvalidError, VerificationError
from crypto.statement import VerifiedStatement, verify_statement
from crypto.statement_types import StatementType
from crypto.trust import Trust
from protocol.authenticated_data import CommitData
from protocol.emergency import Granting, check_guests
from protocol.errors import Code
from protocol.group_context import WardlineContext
from protocol.identifiers import ConversationId, DeviceId, user_of
from protocol.policy import Action, Policy
from server import access


def may_change_guests(
    context: WardlineContext,
    change: CommitData,
    *,
    conversation: ConversationId,
    readers: Collection[DeviceId],
    trust: Trust,
    policy: Policy,
    at_ms: int,
) -> Code | None:
    """May a Commit let these guests in, or forget those of before?

    Args:
        context: The conversation's, before the Commit.
        change: What the Commit says of itself.
        conversation: Where.
        readers: Devices with a cursor there.
        trust: Devices and revocations.
        policy: Who may vouch.
        at_ms: Now.
    """
    if change.context is None or change.context.guests == context.guests:
        return None
    after = ({*readers} - {*change.removed}) | {*change.added}
    try:
        verified = {
            guest.statement: verify_statement(
                guest.statement, expected=StatementType.EMERGENCY, trust=trust, at_ms=at_ms
            )
            for guest in change.context.guests
            if guest not in context.guests
        }
        granting = Granting(
            conversation=conversation,
            people={user_of(one) for one in readers if one != context.recorder},
            devices=readers,
            staying={user_of(one) for one in after},
            verified=verified,
            at_ms=at_ms,
        )
        check_guests(context.guests, change.context.guests, granting)
    except (DecodeError, InvalidError, VerificationError):
        return Code.INVALID
    return _may_vouch(verified.values(), policy)


def _may_vouch(statements: Collection[VerifiedStatement], policy: Policy) -> Code | None:
    for statement in statements:
        for signer in statement.signers:
            roles = frozenset() if signer.identity is None else signer.identity.roles
            if access.may_act(Action.VOUCH, roles, policy) is not None:
                return Code.FORBIDDEN
    return None
