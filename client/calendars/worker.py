"""Reading a feed in a process of its own: one second, 200 MB, and whatever it does, this one lives.

A calendar is a program of sorts: a rule that recurs each minute for ever is a line long. So it is
read where the operating system ends what takes too long or too much, and only shifts come back.
"""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys

from client.calendars.feed import FEED_BYTES, FeedError, Listed

SECONDS = 1.0
"""Processor time for one feed, in seconds, once the program is loaded: a busy machine is no feed's
fault, and nothing in a feed can make its reader wait."""
MEMORY_BYTES = 200 * 1024 * 1024
"""Memory for one feed."""
START_S = 60.0
"""Seconds in which the worker must be done, its start on a busy machine included."""


def read(name: str, data: bytes, *, start_ms: int, end_ms: int, zone: str) -> tuple[Listed, ...]:
    """Return the shifts of a feed in a window.

    Args:
        name: Its format, of ``sources.SOURCES``.
        data: The feed.
        start_ms: The window's start.
        end_ms: Its end.
        zone: The IANA zone of times that name none.

    Raises:
        FeedError: It cannot be read, lists too much, or takes too long or too much memory.
    """
    if len(data) > FEED_BYTES:
        raise FeedError("a feed has at most FEED_BYTES")
    request = json.dumps([name, start_ms, end_ms, zone]).encode() + b"\n" + data
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter, the feed is on standard input
            [sys.executable, "-I", "-m", __name__],
            input=request,
            capture_output=True,
            timeout=START_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise FeedError("it takes too long to read") from None
    if done.returncode == -signal.SIGPROF:
        raise FeedError("it takes longer than a second to read")
    if done.returncode:
        raise FeedError("it takes too much memory, or breaks the reader")
    return _answered(done.stdout)


def _answered(output: bytes) -> tuple[Listed, ...]:
    answer = json.loads(output)
    if isinstance(answer, str):
        raise FeedError(answer)
    return tuple(
        Listed(person=person, service=service, start_ms=start, end_ms=end, level=level)
        for person, service, start, end, level in answer
    )


def main() -> int:
    """Read one feed from standard input, and write its shifts, or why not, as JSON."""
    head, _, data = sys.stdin.buffer.read(FEED_BYTES + 4096).partition(b"\n")
    name, start_ms, end_ms, zone = json.loads(head)
    from client.calendars.sources import SOURCES  # noqa: PLC0415 - the libraries are no feed's time

    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        shifts = SOURCES[name](data, start_ms, end_ms, zone)
    except FeedError as error:
        json.dump(error.reason, sys.stdout)
        return 0
    json.dump([[s.person, s.service, s.start_ms, s.end_ms, s.level] for s in shifts], sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
