"""The words of the protocol that faces use: ``client_cli`` speaks to ``client`` alone."""

from __future__ import annotations

from crypto.names import Role
from crypto.statement_types import Purpose, StatementType
from protocol.authenticated_data import EVERYBODY, Priority, Target, TargetKind
from protocol.errors import Code
from protocol.group_context import ConversationType
from protocol.identifiers import (
    ConversationId,
    DeviceId,
    OrganisationId,
    RoleName,
    UserName,
    user_of,
)
from protocol.policy import Action, Policy

__all__ = [
    "EVERYBODY",
    "Action",
    "Code",
    "ConversationId",
    "ConversationType",
    "DeviceId",
    "OrganisationId",
    "Policy",
    "Priority",
    "Purpose",
    "Role",
    "RoleName",
    "StatementType",
    "Target",
    "TargetKind",
    "UserName",
    "user_of",
]
