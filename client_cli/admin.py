"""``wardline admin``: what administrators do, in parts; on-call schedules are another module's."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import typer
from typer.core import TyperGroup

from client_cli import admin_devices, admin_people, admin_posture, admin_rules
from client_cli.parts import part

LAZY: Mapping[str, str] = MappingProxyType({"oncall": "client_cli.oncall"})
"""Commands of other modules, which are imported when they are named."""


class _Admin(TyperGroup):
    """The commands here, and those that are imported when they are named."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return every command's name."""
        return sorted({*super().list_commands(ctx), *LAZY})

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command, imported where it is another module's."""
        if cmd_name in LAZY:
            return part(LAZY[cmd_name])
        return super().get_command(ctx, cmd_name)


app = typer.Typer(
    cls=_Admin,
    help="People, roles, groups, policy, devices and wipes; every act is signed and on record.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(admin_people.app, name="users")
app.add_typer(admin_rules.roles, name="roles")
app.add_typer(admin_rules.policy, name="policy")
for commands in (admin_devices.app, admin_posture.app, admin_rules.app):
    app.registered_commands.extend(commands.registered_commands)
