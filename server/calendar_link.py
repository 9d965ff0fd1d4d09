"""A person's shifts for their own calendar, by a link that they can end.

``GET /v1/calendars/{organisation}/{secret}``: the secret is in the path because calendars know no
other way, and the relay keeps its hash alone. What comes back is the person's shifts: when, which
role, and who has it with them. A link that is not, or is no more, is answered like no such place.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from crypto.errors import InvalidError
from protocol.oncall.calendar import events, export

if TYPE_CHECKING:
    from server.relay import Relay

_SECRET_HEX = 64


def routes(relay: Relay) -> list[Route]:
    """Return the route."""

    async def calendar(request: Request) -> Response:
        """Give one person's shifts."""
        peer = request.client.host if request.client else ""
        address = relay.address_of(peer, ",".join(request.headers.getlist("X-Forwarded-For")))
        if relay.connection_wait_ms(address):
            return Response(status_code=429)
        found = _export(relay, request.path_params["organisation"], request.path_params["secret"])
        if found is None:
            return Response(status_code=404)
        headers = {"Cache-Control": "private, max-age=900", "X-Content-Type-Options": "nosniff"}
        return Response(found, media_type="text/calendar; charset=utf-8", headers=headers)

    return [Route("/v1/calendars/{organisation}/{secret}", calendar)]


def _export(relay: Relay, organisation: str, secret: str) -> bytes | None:
    try:
        known = relay.organisations.get(bytes.fromhex(organisation))
        hashed = hashlib.sha256(bytes.fromhex(secret)).digest()
    except ValueError:
        return None
    if known is None or len(secret) != _SECRET_HEX or known.owed is not None:
        return None
    user = known.duty.whose_link(hashed)
    if user is None or not known.of_user(user):
        return None
    now_ms = relay.now_ms()
    plans = known.duty.configuration.plans.values()
    try:
        return export(events(plans, now_ms=now_ms, user=user), now_ms=now_ms)
    except InvalidError:
        # A schedule that takes too long to lay out for half a year; the rest of the day goes on.
        relay.count("calendars_left_out")
        return None
