"""The HTTP routes beside the stream: health, readiness, metrics, invitations, attachments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from server import attachments, calendar_link, invitations
from server.metrics import render

if TYPE_CHECKING:
    from server.relay import Relay


def application(relay: Relay) -> Starlette:
    """Return the relay's HTTP application."""

    async def health(_request: Request) -> Response:
        """Say that the process answers."""
        return PlainTextResponse("ok\n")

    async def ready(_request: Request) -> Response:
        """Say whether it serves: not while it drains, and not before a restore is reconciled."""
        serving = not relay.draining and not relay.reconciling
        return PlainTextResponse("ready\n" if serving else "not ready\n", 200 if serving else 503)

    async def metrics(request: Request) -> Response:
        """Give the counters to whoever asks on the relay's own host."""
        peer = "" if request.client is None else request.client.host
        address = relay.address_of(peer, ",".join(request.headers.getlist("X-Forwarded-For")))
        if address not in ("127.0.0.1", "::1"):
            return PlainTextResponse("", 404)
        return PlainTextResponse(render(relay), media_type="text/plain; version=0.0.4")

    return Starlette(
        routes=[
            Route("/healthz", health),
            Route("/readyz", ready),
            Route("/metrics", metrics),
            Route(invitations.PATH, invitations.endpoint(relay)),
            *attachments.routes(relay),
            *calendar_link.routes(relay),
        ]
    )
