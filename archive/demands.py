"""Which requests and commands about the members of a conversation ask for nothing any more."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from client.rules import Demand
from crypto.statement import StatementType
from protocol.commands import ChangeMembers, decode_command
from protocol.identifiers import DeviceId, user_of
from protocol.requests import RequestKind, decode_request


def let_in(demands: Iterable[Demand], came: Collection[DeviceId]) -> list[Demand]:
    """Return the requests to be let in again of devices that came; another of theirs still waits.

    Raises:
        DecodeError: A request is none, which was looked at when it was taken in.
    """
    return [
        one
        for one in demands
        if one.by in came and decode_request(one.body).kind is RequestKind.RE_ADD
    ]


def done_with(
    demands: Iterable[Demand],
    readers: Collection[DeviceId],
    standing: Mapping[str, Collection[DeviceId]],
) -> list[Demand]:
    """Return what asks for nothing any more: it is not followed again once that has changed.

    Args:
        demands: Of persons, and commands.
        readers: The devices that are in.
        standing: The devices of each person that are valid.
    """
    found = []
    users = {user_of(device) for device in readers}
    for demand in demands:
        if demand.kind is StatementType.COMMAND:
            command = decode_command(demand.body)
            if isinstance(command, ChangeMembers):
                came = all(set(standing.get(user, ())) & set(readers) for user in command.added)
                if came and not users & set(command.removed):
                    found.append(demand)
        elif demand.by is not None and user_of(demand.by) not in users:
            found.append(demand)
    return found
