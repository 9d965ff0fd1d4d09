"""``wardline-archive review``: sessions, cases, and what officers have opened, read and exported.

It runs beside the process that records and hands it what is to be recorded. Without ``--json``,
``open`` shows a screen; with it, the answers to the questions on the command line.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import typer

from archive import explaining as failing
from archive import review_canary
from archive.casework import Casework
from archive.desk import Filed, SessionState
from archive.errors import NotWitnessedError, SessionError
from archive.export import Exporter, seal, verifier_hash
from archive.opening_handout import Permit
from archive.opening_reading import Line
from archive.opening_reshare import Recipients, Resharing, take_effect
from archive.opening_session import Review, Worker
from archive.opening_site import Site, opened_site
from archive.proving import Trusted
from archive.review_course import history, members
from client.clocks import now_ms
from crypto.errors import InvalidError
from crypto.statement_types import StatementType
from protocol.letters import Notice, Topic, encode_letter
from protocol.opening import OpeningRequest
from protocol.retention import Bucket

PROGRAM = "wardline-archive review"

app = typer.Typer(
    help="Open, read and export what k officers have released.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

DEFAULT = Path("/etc/wardline/archive/archive.toml")
WITNESS_S = 60.0
"""Seconds to wait until the recorder has something under a cosigned checkpoint."""

POLL_S = 0.2

ENDED = "ended: its session's key is destroyed"
"""Where a request stands whose review is over, whatever the officers had said."""

T = TypeVar("T")

ConfigFile = Annotated[
    Path, typer.Option("--config", envvar="WARDLINE_ARCHIVE", help="The archive's TOML file.")
]
Request = Annotated[str, typer.Argument(help="The request's hash, or its beginning.")]
AsJson = Annotated[bool, typer.Option("--json", help="Answer in JSON, for programs.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A scope whose keys were handed out.

    Attributes:
        site: The installation.
        permit: What permits it.
        announced: Number of the hand-out's record.
        worker: The process that holds what was opened.
        review: To ask it, on record.
    """

    site: Site
    permit: Permit
    announced: int
    worker: Worker
    review: Review


def say(value: object) -> None:
    """Print a line, or a value as JSON."""
    line = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    sys.stdout.write(f"{line}\n")


@contextmanager
def explaining() -> Iterator[None]:
    """End the command with one line on standard error where it fails."""
    with failing.explaining(PROGRAM):
        try:
            yield
        except NotWitnessedError:
            reason = "not yet under a witnessed checkpoint: is `wardline-archive run` running?"
        except SessionError:
            reason = "the review session has ended; begin another, with a request of its own"
        except InvalidError as error:
            reason = f"refused: {error.rule}"
        else:
            return
        raise failing.fail(reason, program=PROGRAM)


def patiently(ask: Callable[[], T]) -> T:
    """Return what ``ask`` gives once the recorder has witnessed what it waits for.

    Raises:
        NotWitnessedError: It has not, in ``WITNESS_S``.
    """
    until = time.monotonic() + WITNESS_S
    while True:
        try:
            return ask()
        except NotWitnessedError:
            if time.monotonic() > until:
                raise
            time.sleep(POLL_S)


@app.command()
def begin(*, as_json: AsJson = False, config: ConfigFile = DEFAULT) -> None:
    """Begin a review session: officers' requests are offered its one-time key."""
    with explaining(), opened_site(config) as site:
        key = site.sessions.begin()
        site.desk.begin_session(key, now_ms())
        name = key[:8].hex()
        say({"session": name} if as_json else f"session {name} waits for a request")


@app.command()
def cases(*, as_json: AsJson = False, config: ConfigFile = DEFAULT) -> None:
    """List the requests, and where each stands."""
    with explaining(), opened_site(config) as site:
        casework = Casework(site.desk, site.store, site.officers, trust=lambda: site.trust)
        found = [
            _case(site, casework, filed)
            for filed in site.desk.of_kind(StatementType.OPENING_REQUEST)
        ]
        if as_json:
            say(found)
            return
        for case in found:
            say(f"{case['request'][:16]}  {case['case']}  by {case['officer']}: {case['standing']}")


def _case(site: Site, casework: Casework, filed: Filed) -> dict[str, Any]:
    request = OpeningRequest.decode(filed.body)
    tally = casework.tally(filed, now_ms())
    closed = {key for key, state, *_ in site.desk.sessions() if state is SessionState.CLOSED}
    ended = request.session_key in closed
    # Shares count once the statement that names them is recorded, too: they come apart.
    stated = {one.officer for one in site.desk.of_request(filed.hash, StatementType.SHARE_RELEASE)}
    return {
        "request": filed.hash.hex(),
        "case": request.case,
        "reason": request.reason,
        "officer": filed.officer,
        "purpose": request.purpose.name.lower(),
        "emergency": request.emergency,
        "standing": ENDED if ended else tally.standing.value,
        "ended": ended,
        "approved": sorted(tally.approved),
        "released": sorted(stated.intersection(site.desk.shares(filed.hash))),
        "ends_ms": request.ends_ms,
    }


@app.command(name="open")
def open_scope(
    request: Request,
    *,
    search: Annotated[list[str] | None, typer.Option(help="Words to search for.")] = None,
    timeline: Annotated[bool, typer.Option(help="The lines in order of time.")] = False,
    conversation: Annotated[str, typer.Option(help="In one conversation only.")] = "",
    after: Annotated[int, typer.Option(help="Lines after this record.")] = -1,
    context: Annotated[int | None, typer.Option(help="What stands around a record.")] = None,
    course: Annotated[
        int | None, typer.Option(help="Who got, read and acknowledged a message.")
    ] = None,
    participants: Annotated[bool, typer.Option(help="Who wrote where.")] = False,
    limit: Annotated[int, typer.Option(help="Lines at most.")] = 100,
    as_json: AsJson = False,
    config: ConfigFile = DEFAULT,
) -> None:
    """Open what a request's officers have released, and look through it."""
    with explaining(), opened_site(config) as site, opened_scope(site, request) as scope:
        if not as_json:
            from archive.review_screen import ReviewScreen  # noqa: PLC0415 - a screen is asked for

            ReviewScreen(scope).run()
            return
        say({"summary": scope.review.summary()})
        for words in search or ():
            say({"search": words, "lines": _plain(scope.review.search(words, limit=limit))})
        if timeline:
            lines = scope.review.timeline(group=conversation, after_index=after, limit=limit)
            say({"timeline": _plain(lines)})
        if context is not None:
            say({"context": _plain(scope.review.context(context))})
        if course is not None:
            say({"course": told_course(scope, course)})
        if participants:
            say({"participants": scope.review.participants(), "members": told_members(scope)})


def _plain(lines: list[Line]) -> list[dict[str, Any]]:
    return [msgspec.to_builtins(line) for line in lines]


def told_course(scope: Opened, index: int) -> dict[str, Any]:
    """Return a message's delivery, and the course of its conversation's pages."""
    group = next((line.group for line in scope.review.context(index, before=0, after=0)), "")
    period = scope.permit.request.scope
    pages = (
        history(
            scope.site.store,
            bytes.fromhex(group),
            from_ms=period.from_ms,
            until_ms=period.until_ms,
        )
        if group
        else []
    )
    return {"delivery": _plain(scope.review.course(index)), "pages": pages}


def told_members(scope: Opened) -> list[dict[str, Any]]:
    """Return who was in each epoch of the scope."""
    handing_out = scope.site.handing_out
    return [
        {
            "group": hit.group_id.hex(),
            "epoch": hit.epoch,
            "members": members(handing_out, scope.site.root, hit.group_id, hit.epoch),
        }
        for hit in scope.permit.hits.segments
    ]


@app.command()
def export(
    request: Request,
    *,
    to: Annotated[str, typer.Option(help="The recipient's public age key, age1...")],
    out: Annotated[Path, typer.Option(help="File to write: a tar, sealed by age.")],
    as_json: AsJson = False,
    config: ConfigFile = DEFAULT,
) -> None:
    """Export an opened scope, sealed to one recipient, with all that proves it."""
    with explaining(), opened_site(config) as site, opened_scope(site, request) as scope:
        exporter = Exporter(
            scope.review,
            site.store,
            site.handing_out,
            permit=scope.permit,
            announced=scope.announced,
            trusted=Trusted(root=site.root, policy=site.policy),
            attachments=site.attachment,
        )
        draft = patiently(lambda: exporter.prepare(to, now_ms=now_ms()))
        sealed = seal(patiently(lambda: exporter.finish(draft)), to)
        with out.open("xb") as file:
            file.write(sealed)
        told = {"file": str(out), "messages": draft.lines, "bytes": len(sealed)}
        say(told if as_json else f"{out}: {draft.lines} messages, sealed to {to[:16]}...")


@app.command()
def reshare(
    request: Request,
    *,
    bucket: Annotated[
        str, typer.Option(help="Class to share to, as `held`; each segment's own by default.")
    ] = "",
    officer: Annotated[
        list[str] | None, typer.Option(help="A new officer's user name; the configured by default.")
    ] = None,
    config: ConfigFile = DEFAULT,
) -> None:
    """Share the segments of a released request anew, to other officers or for a hold."""
    with explaining(), opened_site(config) as site:
        names = tuple(officer) if officer else site.officers.names
        recipients = Recipients(
            names=tuple(type(site.officers.names[0])(name) for name in names),
            quorum=site.officers.quorum,
            bucket=Bucket.at(bucket, now_ms()).name if bucket else None,
        )
        with handed_out(site, request) as (permit, announced, worker):
            resharing = Resharing(worker, site.store, site.handing_out)
            done = patiently(lambda: resharing.run(permit, announced, recipients, now_ms=now_ms()))
        for sealed, number in done:
            patiently(lambda one=sealed, at=number: _effective(site, one, at))  # type: ignore[misc]
        say(f"{len(done)} segments are shared anew among {', '.join(recipients.names)}")


def _effective(site: Site, sealed: Any, number: int) -> None:
    if not take_effect(site.store, sealed, number):
        raise NotWitnessedError


@app.command()
def end(request: Request, *, config: ConfigFile = DEFAULT) -> None:
    """End a request's session: its key is destroyed, and what was released to it with that."""
    with explaining(), opened_site(config) as site:
        filed = found_request(site, request)
        key = OpeningRequest.decode(filed.body).session_key
        site.sessions.end(key)
        site.desk.close_session(key)
        notice = Notice(topic=Topic.CLOSED, about=filed.hash)
        with site.desk.transaction():
            site.desk.post(encode_letter(notice))
        say(f"session {key[:8].hex()} has ended")


@app.command()
def canary(*, config: ConfigFile = DEFAULT) -> None:
    """Offer the canary to the officers where it is due, and open it where they released it.

    The archive starts this by itself; exits 2 where the canary is not what was written.
    """
    with explaining(), opened_site(config) as site:
        state = review_canary.step(site, partial(_reviewed, site), now_ms=now_ms())
    say(state.value)
    if state is review_canary.State.WRONG:
        raise typer.Exit(2)


@contextmanager
def _reviewed(site: Site, request: str) -> Iterator[Review]:
    with opened_scope(site, request) as scope:
        yield scope.review


@app.command()
def health(*, as_json: AsJson = False, config: ConfigFile = DEFAULT) -> None:
    """Tell which officers have proved within the month that they hold their keys."""
    with explaining(), opened_site(config) as site:
        casework = Casework(site.desk, site.store, site.officers, trust=lambda: site.trust)
        found = casework.health(now_ms())
        told = {
            "proven": sorted(found.proven),
            "overdue": sorted(found.overdue),
            "alarm": found.alarm,
        }
        say(told if as_json else "\n".join(f"{name}: {value}" for name, value in told.items()))
        if found.alarm:
            raise typer.Exit(2)


def found_request(site: Site, beginning: str) -> Filed:
    """Return the one request whose hash begins as given.

    Raises:
        InvalidError: There is none, or more than one.
    """
    found = [
        filed
        for filed in site.desk.of_kind(StatementType.OPENING_REQUEST)
        if filed.hash.hex().startswith(beginning.lower())
    ]
    if len(found) != 1:
        raise InvalidError("a request is named by the beginning of its hash, and of no other's")
    return found[0]


@contextmanager
def handed_out(site: Site, beginning: str) -> Iterator[tuple[Permit, int, Worker]]:
    """Announce a request's hand-out, and start a worker that has its session's key."""
    handing_out, name = site.handing_out, found_request(site, beginning).hash
    permit = patiently(lambda: handing_out.permit(name, now_ms=now_ms()))
    announced = handing_out.announce(permit, verifier=verifier_hash())
    worker = Worker(site.sessions.key(permit.request.session_key), site.root)
    try:
        yield permit, announced, worker
    finally:
        worker.close()


@contextmanager
def opened_scope(site: Site, beginning: str) -> Iterator[Opened]:
    """Open what a request's officers have released."""
    with handed_out(site, beginning) as (permit, announced, worker):
        handing_out = site.handing_out
        first = patiently(lambda: _first(handing_out.segments, permit, announced))
        worker.add(first)
        review = Review(worker, site.store, request=permit.hash, clock=now_ms)
        yield Opened(site=site, permit=permit, announced=announced, worker=worker, review=review)


def _first(segments: Callable[..., Iterator[Any]], permit: Permit, announced: int) -> Iterator[Any]:
    """Return the segments as an iterator of which the first has come: so it is permitted."""
    found = segments(permit.hash, announced, now_ms=now_ms())
    head = next(found, None)

    def chained() -> Iterator[Any]:
        if head is not None:
            yield head
            yield from found

    return chained()


def main() -> None:
    """Run the program."""
    arguments = sys.argv[2:] if sys.argv[1:2] == ["review"] else sys.argv[1:]
    app(args=arguments, prog_name=PROGRAM)


if __name__ == "__main__":
    main()
