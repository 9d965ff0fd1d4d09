"""What the screens say to whom the policy keeps from sending."""

from __future__ import annotations

import pytest
from textual.pilot import Pilot
from textual.widgets import TextArea

from client.views import Change, ChangeKind
from client_cli.app import Ending, Wardline
from protocol.content import Text
from protocol.policy import Action
from tests.client_cli.fake_ward import FakeWard, example_ward
from tests.client_cli.pilot import desk, flat, keys, said, typed, until


@pytest.fixture
def ward() -> FakeWard:
    return example_ward()


def composer(pilot: Pilot[Ending]) -> TextArea:
    assert isinstance(pilot.app, Wardline)
    return pilot.app.desk.query_one(TextArea)


async def test_who_may_not_send_is_told_so_and_has_no_line_to_write_in(ward: FakeWard) -> None:
    ward.rights.denied = {Action.SEND}
    async with desk(ward) as pilot:
        await keys(pilot, "enter")
        assert "Your role may not send messages here. Ask your administrator." in flat(pilot.app)
        assert composer(pilot).disabled
        await typed(pilot, "zz")
        await keys(pilot, "w", "enter", "escape")
        assert (composer(pilot).text, said(ward)) == ("", [])
        # The policy gives it back while the thread is open.
        ward.rights.denied = set()
        ward.tell(Change(kind=ChangeKind.CONTROL))
        await until(pilot, lambda: not composer(pilot).disabled)
        await keys(pilot, "enter", "escape", "w")
        await typed(pilot, "hello")
        await keys(pilot, "enter")
        assert said(ward) == [Text(text="hello")]
