"""Who works behind the archive's connections, on one open log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from archive.attachments import Attachments
from archive.canary import Reviewing
from archive.correspondence import Correspondence
from archive.desk import Desk
from archive.gathering import Gathering
from archive.installation import Installation
from archive.log import Log
from archive.mirror import Mirror
from archive.mirror_link import SecondMachine
from archive.progress import Progress
from archive.recorder import Recorder
from archive.steward import Steward
from archive.uploads import FOLDER
from archive.watch import Watch


@dataclass(frozen=True, slots=True, kw_only=True)
class Team:
    """All who work behind a connection.

    Attributes:
        clock: Gives this host's time, in ms since the epoch.
        installation: Files and authority.
        recorder: Takes in.
        steward: Changes conversations.
        correspondence: Answers officers.
        gathering: Asks officers' devices to cosign.
        attachments: Fetches files.
        watch: Looks after all of them.
        mirror: Has every record before it is acknowledged, where there is one.
        machine: The mirror on another machine, where there is one.
        reviewing: Starts what opens the canary.
        progress: How far they are.
    """

    clock: Callable[[], int]
    installation: Installation
    recorder: Recorder
    steward: Steward
    correspondence: Correspondence
    gathering: Gathering
    attachments: Attachments
    watch: Watch
    mirror: Mirror | None
    machine: SecondMachine | None
    reviewing: Reviewing
    progress: Progress


def assembled(
    archive: Installation,
    log: Log,
    desk: Desk,
    *,
    clock: Callable[[], int],
    mirror: Mirror | None = None,
) -> Team:
    """Return those who work on an open log."""
    recorder, progress = archive.recorder(log), Progress()
    recorder.is_sure = progress.agrees
    steward = archive.steward(recorder)
    machine = archive.mirror_machine(recorder, progress)
    reviewing = Reviewing(archive.file)
    return Team(
        clock=clock,
        installation=archive,
        recorder=recorder,
        steward=steward,
        correspondence=Correspondence(
            recorder, steward, desk, archive.casework(desk, log.store), review=reviewing.start
        ),
        gathering=Gathering(archive, recorder, progress),
        attachments=Attachments(
            log.store,
            archive.data / FOLDER,
            copies=() if mirror is None else [mirror.attachments],
            elsewhere=None if machine is None else machine.hold_attachment,
        ),
        watch=Watch(recorder, progress, archive.settings.alarms, archive.places),
        mirror=mirror,
        machine=machine,
        reviewing=reviewing,
        progress=progress,
    )
