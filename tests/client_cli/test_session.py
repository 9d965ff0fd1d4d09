"""From a command line to an open device: which profile, whose secrets, and orders that wait."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from client import connection, profile, unlocking, wiping
from client.errors import SuspendedError, WipingError, WithheldError
from client_cli import session
from client_cli.output import CommandError, Exit
from client_cli.session import Settings


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return settings of a machine with three devices of two people."""
    devices = ("ann/phone", "ann/tablet", "beth/phone")
    found = [SimpleNamespace(device=device, wiping=False, directory=tmp_path) for device in devices]
    monkeypatch.setattr(profile, "profiles", lambda _root: found)
    monkeypatch.setattr(wiping, "profiles", lambda _root: found)
    monkeypatch.setattr(connection, "read", lambda one: one)
    pin = tmp_path / "pin"
    pin.write_text("123456\r\n")
    return Settings(home=tmp_path, who="beth", pin_file=pin)


def chosen(settings: Settings, who: str | None) -> str:
    return str(session.choose(Settings(home=settings.home, who=who)).device)  # type: ignore[attr-defined]


def test_a_device_is_chosen_by_its_name_or_its_persons(settings: Settings) -> None:
    assert chosen(settings, "beth") == "beth/phone"
    assert chosen(settings, "ann/tablet") == "ann/tablet"


@pytest.mark.parametrize("who", [None, "ann", "carol"])
def test_which_device_is_asked_where_it_is_not_clear(settings: Settings, who: str | None) -> None:
    with pytest.raises(CommandError) as caught:
        chosen(settings, who)
    assert caught.value.exit is Exit.UNKNOWN
    assert "ann/" in str(caught.value)


def test_a_secrets_last_line_feed_is_no_part_of_it(settings: Settings) -> None:
    assert settings.pin() == "123456"


def test_a_missing_file_is_named_and_its_content_never(settings: Settings) -> None:
    with pytest.raises(CommandError) as caught:
        session.secret("PIN", settings.home / "none", option="--pin-file")
    assert caught.value.exit is Exit.USAGE


async def refused(*_arguments: object, **_more: object) -> None:
    raise WithheldError


def answering(error: Exception | None) -> Callable[..., object]:
    async def obey(*_arguments: object, **_more: object) -> None:
        if error is not None:
            raise error

    return obey


@pytest.mark.parametrize(
    ("waits", "told"), [(None, WipingError), (SuspendedError(), SuspendedError)]
)
async def test_a_withheld_device_follows_its_order_before_anything_else(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    waits: Exception | None,
    told: type[Exception],
) -> None:
    monkeypatch.setattr(unlocking, "unlock", refused)
    monkeypatch.setattr(wiping, "obey", answering(waits))
    with pytest.raises(told):
        await session.unlocked(settings)


def test_a_command_over_a_shell_takes_the_shells_password_and_form() -> None:
    shell = Settings(home=Path("a"), password_file=Path("p"), as_json=True)
    own = Settings(home=Path("b"), code="1").within(shell)
    assert (own.password_file, own.as_json, own.code) == (Path("p"), True, "1")
