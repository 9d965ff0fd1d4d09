"""What somebody should look at: raised where it is seen, told by ``status`` and the metrics."""

from __future__ import annotations

from enum import Enum


class Alarm(Enum):
    """What somebody should look at."""

    OFFICERS = "too few officers have published keys: conversations wait, unarchived"
    LIVENESS = "so few officers have proved their keys that one more loss could end every opening"
    CANARY = "nothing was opened for a quarter: whether anything can be is not known"
    GAP = "numbers of a log never came"
    HOLE = "an entry does not follow on the last: read again"
    FAULT = "an entry did not have its effect: see the evidence"
    POISON = "an entry broke the recorder's own code"
    CLOCK = "the clocks of archive and relay differ"
    LAG = "the last witnessed checkpoint is old"
    DISK = "the disk is nearly full"
    MIRROR = (
        "the mirror's machine does not confirm: it is away, its disk is full, or it found a fork"
    )
    WIPE = "a wipe order was refused by the limit"
    OFFICER_WIPE = "an officer's device was not wiped: what it opens was not shared anew"
    RELAY = "the relay does not take what the authority or the archive tells it"
    COSIGNERS = "for a week no officer's device has cosigned: the relay alone vouches for the log"
    WITNESS = "a witness does not sign: it lacks the log policy, or knows another log"
