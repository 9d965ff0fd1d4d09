"""Who may suspend whose devices without being an administrator, and end that again: pure.

A person may suspend their own devices; a ward's delegate those of the ward's people. The delegate
is whoever answers for a role that an administrator named, so there is one at night as well. Both
end only what was suspended in this way: what an administrator suspended, an administrator lifts.

A device that suspends itself has given itself up, as one that is removed from a shared workstation
does: nothing is left that could be restored, and the authority revokes it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from crypto.errors import InvalidError
from protocol.commands import Suspension
from protocol.identifiers import DeviceId, RoleName, UserName, user_of
from protocol.oncall.role import Roster, answering


def gives_up(suspension: Suspension, *, by: str) -> bool:
    """Tell whether a device says of itself alone that it is no more."""
    return not suspension.lifted and suspension.devices == (by,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rights:
    """What decides it.

    Attributes:
        wards: Where people work.
        delegates: By ward, the role whose people on call are its delegates.
        roster: Who is on call, as of ``at_ms``.
        at_ms: When the control log takes the suspension in.
        mild: Devices that stand suspended by a person or a delegate, and by no administrator.
    """

    wards: Mapping[UserName, str] = field(repr=False)
    delegates: Mapping[str, RoleName]
    roster: Roster
    at_ms: int
    mild: Collection[DeviceId]

    def check(self, suspension: Suspension, *, by: UserName) -> None:
        """Refuse a suspension that this person may not give, or not end.

        Raises:
            InvalidError: One of its devices is not theirs to suspend, or an administrator's word
                stands against it.
        """
        for device in suspension.devices:
            user = user_of(device)
            if user != by and not self.is_delegate(by, of=user):
                raise InvalidError("a person suspends their own devices, a delegate their ward's")
            if suspension.lifted and device not in self.mild:
                raise InvalidError("what an administrator suspended, an administrator lifts")

    def is_delegate(self, user: UserName, *, of: UserName) -> bool:
        """Tell whether somebody is now the delegate for another's ward."""
        role = self.roster.get(self.delegates.get(self.wards.get(of, ""), RoleName("")))
        return role is not None and user in answering(role, self.at_ms)
