"""Which function answers which frame. A frame that is not here has no way into the relay."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from protocol import frames
from protocol.frames import Frame
from server import (
    accounts,
    control,
    conversations,
    enrolment,
    opening,
    posts,
    reconcile,
    requests,
    waking,
    witness,
)

if TYPE_CHECKING:
    from server.connection import Connection
    from server.relay import Relay

Handler = Callable[["Relay", "Connection", Frame], None]

HANDLERS: Mapping[type[Frame], Handler] = MappingProxyType(
    {
        frames.Hello: opening.hello,
        frames.Prove: opening.prove,
        frames.Unlock: opening.unlock,
        frames.Authenticate: accounts.authenticate,
        frames.Append: conversations.append,
        frames.AppendCommit: conversations.append_commit,
        frames.Post: posts.post,
        frames.Acknowledge: conversations.acknowledge,
        frames.Lookup: requests.lookup,
        frames.LookupCertificates: requests.certificates,
        frames.PublishKeyPackages: requests.publish,
        frames.ClaimKeyPackage: requests.claim,
        frames.Command: control.command,
        frames.StoreShare: accounts.store_share,
        frames.GetShare: accounts.get_share,
        frames.Enrol: enrolment.enrol,
        frames.ConfirmEnrolment: enrolment.confirm,
        frames.Adopt: reconcile.adopt,
        frames.Replay: reconcile.replay,
        frames.Resume: reconcile.resume,
        frames.Witness: witness.add_checkpoint,
        frames.GetWitnessKey: witness.tell_key,
        frames.Standing: requests.standing,
        frames.TestAlert: waking.ring,
        frames.AlertHeard: waking.heard,
        frames.GetReach: waking.tell,
    }
)
