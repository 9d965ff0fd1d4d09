"""What the relay counts says nothing of whom it befell."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx

from protocol.errors import Code
from server import metrics
from tests.server import harness

COUNTS = re.compile(r"(?:self|relay)\.count\(([^\n]*)\)$", re.MULTILINE)
NAME = re.compile(r'"([a-z_]+)"|f"(refused|closed)_\{code\.name\.lower\(\)\}"')
LINE = re.compile(r'wardline_[a-z_]+(?:\{event="([a-z_]+)"\})? [0-9.e+-]+')


def counted() -> Iterator[str]:
    """Yield every name under which the relay's code counts; one put together otherwise fails."""
    for file in sorted(Path(metrics.__file__).parent.glob("*.py")):
        for argument in COUNTS.findall(file.read_text()):
            name = NAME.fullmatch(argument)
            assert name is not None, f"{file.name}: {argument}"
            yield from [name[1]] if name[1] else (f"{name[2]}_{c.name.lower()}" for c in Code)


async def test_every_metric_is_a_number_under_a_name_of_a_fixed_list(tmp_path: Path) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        (ann, _, _), conversation = await site.meeting("ann/phone", "bob/phone")
        for place, epoch in ((conversation, 1), (conversation, 9), (b"x" * 32, 1)):
            await ann.send(harness.message(ann, place, epoch=epoch))
        await ann.socket.send(b"\xff")
        await ann.closed()
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{site.port}") as web:
            lines = (await web.get("/metrics")).text.splitlines()
    found = [LINE.fullmatch(line) for line in lines if not line.startswith("# TYPE ")]
    assert all(found), lines
    events = {one[1] for one in found if one is not None and one[1] is not None}
    assert {"closed_malformed", "refused_no_such", "refused_stale_epoch"} <= events
    assert events <= set(counted())
