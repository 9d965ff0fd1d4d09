"""The HTTP routes beside the stream: health, readiness, metrics, invitations, attachments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from server import attachments, calendar_link, invitations
from server.metrics import render

if TYPE_CHECKING:
    from server.relay import Relay


def address_of(relay: Relay, request: Request) -> str:
    """Return the address from which a request comes."""
    peer = "" if request.client is None else request.client.host
    return relay.address_of(peer, ",".join(request.headers.getlist("X-Forwarded-For")))


class _Paced:
    """Turns away who asks faster than an address may, and ends the socket: another costs more.

    Also what needs no session is an answer, and a socket that is kept open asks without end.
    """

    def __init__(self, served: ASGIApp, relay: Relay) -> None:
        self._served = served
        self._relay = relay

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or answer 429."""
        if self._relay.web_wait_ms(address_of(self._relay, Request(scope))):
            refused = Response(status_code=429, headers={"Connection": "close"})
            await refused(scope, receive, send)
        else:
            await self._served(scope, receive, send)


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
        if address_of(relay, request) not in ("127.0.0.1", "::1"):
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
        ],
        middleware=[Middleware(_Paced, relay)],
    )
