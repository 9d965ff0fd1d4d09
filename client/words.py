"""The words of the protocol that faces use: ``client_cli`` speaks to ``client`` alone."""

from __future__ import annotations

from crypto.errors import InvalidError
from crypto.names import Role
from crypto.statement_types import Purpose, StatementType
from protocol.authenticated_data import EVERYBODY, Priority, Target, TargetKind
from protocol.content import (
    Acknowledgement,
    Attachment,
    Card,
    CheckIn,
    CheckInAnswer,
    Claim,
    Closing,
    Content,
    CriticalResult,
    Edit,
    EmergencyRequest,
    EmergencyVouch,
    HandOff,
    HandOffAcceptance,
    HistoryHandOver,
    IncidentEvent,
    Location,
    Moderators,
    Mute,
    OpenShift,
    Reaction,
    ReadBack,
    Reference,
    Reply,
    RoomConfirmation,
    RoomRequest,
    Stage,
    Task,
    TaskChange,
    TaskState,
    Text,
    Unknown,
)
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
from protocol.oncall import page_state
from protocol.oncall.commands import AgreeSwap, DropSwap
from protocol.oncall.configuration import Proposal
from protocol.policy import Action, Policy, SignOut

PageEvent = page_state.Event
PagePlace = page_state.State
PageStatus = page_state.Status

__all__ = [
    "EVERYBODY",
    "Acknowledgement",
    "Action",
    "AgreeSwap",
    "Attachment",
    "Card",
    "CheckIn",
    "CheckInAnswer",
    "Claim",
    "Closing",
    "Code",
    "Content",
    "ConversationId",
    "ConversationType",
    "CriticalResult",
    "DeviceId",
    "DropSwap",
    "Edit",
    "EmergencyRequest",
    "EmergencyVouch",
    "HandOff",
    "HandOffAcceptance",
    "HistoryHandOver",
    "IncidentEvent",
    "InvalidError",
    "Location",
    "Moderators",
    "Mute",
    "OpenShift",
    "OrganisationId",
    "PageEvent",
    "PagePlace",
    "PageStatus",
    "Policy",
    "Priority",
    "Proposal",
    "Purpose",
    "Reaction",
    "ReadBack",
    "Reference",
    "Reply",
    "Role",
    "RoleName",
    "RoomConfirmation",
    "RoomRequest",
    "SignOut",
    "Stage",
    "StatementType",
    "Target",
    "TargetKind",
    "Task",
    "TaskChange",
    "TaskState",
    "Text",
    "Unknown",
    "UserName",
    "user_of",
]
