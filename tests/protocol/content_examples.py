"""One content of each kind, for the document's examples and for tests."""

from __future__ import annotations

from protocol.content import (
    Acknowledgement,
    Attachment,
    Card,
    CheckIn,
    CheckInAnswer,
    Claim,
    Closing,
    CriticalResult,
    Delivered,
    Edit,
    EmergencyRequest,
    EmergencyVouch,
    HandOff,
    HandOffAcceptance,
    HistoryHandOver,
    IncidentEvent,
    Known,
    Location,
    Moderators,
    Mute,
    Official,
    OpenShift,
    Original,
    Reaction,
    Read,
    ReadBack,
    Reference,
    Reply,
    Retraction,
    RoomConfirmation,
    RoomRequest,
    Stage,
    Task,
    TaskChange,
    TaskState,
    Text,
    encode,
)
from protocol.identifiers import DeviceId, RoleName, UserName

HOUR_MS = 3_600_000
NOW_MS = 1_800_000_000_000
ANN = UserName("ann")
BOB = UserName("bob")
REFERENCE = Reference(sender=DeviceId("ann/phone"), message_id=7)
ATTACHMENT_REF = b"\x01" + bytes(32) + (70_000).to_bytes(8, "big") + bytes(range(64))

EXAMPLES: tuple[Known, ...] = (
    Text(text="Bed 7 is ready."),
    Reply(to=REFERENCE, text="On my way."),
    Edit(target=REFERENCE, text="Bed 8 is ready."),
    Retraction(target=REFERENCE),
    Reaction(target=REFERENCE, mark="\N{THUMBS UP SIGN}"),
    Delivered(through=REFERENCE),
    Read(through=REFERENCE),
    Acknowledgement(target=REFERENCE),
    Attachment(
        blob="00112233445566778899aabbccddeeff",
        ref=ATTACHMENT_REF,
        name="wound.jpg",
        media_type="image/jpeg",
        caption="Left heel, day 3",
    ),
    Location(ward="ICU", room="Bed 7"),
    Task(title="Blood cultures before antibiotics", assignee=BOB, due_ms=NOW_MS),
    TaskChange(target=REFERENCE, state=TaskState.DONE),
    CriticalResult(patient="MRN 4711", test="Potassium", value="6.9 mmol/l"),
    ReadBack(target=REFERENCE, value="6.9 mmol/l"),
    Closing(target=REFERENCE),
    HandOff(
        subject="Bed 7",
        situation="Stable after laparotomy",
        background="Perforated appendix",
        assessment="Pain controlled",
        recommendation="Lactate at 22:00",
        to=(BOB,),
    ),
    HandOffAcceptance(target=REFERENCE),
    OpenShift(role=RoleName("icu-registrar"), start_ms=NOW_MS, end_ms=NOW_MS + 12 * HOUR_MS),
    Claim(target=REFERENCE),
    CheckIn(
        title="Before theatre",
        questions=("Fasted since?", "Allergies?"),
        answer_by_ms=1798761600000,
    ),
    CheckInAnswer(target=REFERENCE, answers=("22:00", "")),
    RoomRequest(
        room="Theatre 2",
        start_ms=NOW_MS,
        end_ms=NOW_MS + HOUR_MS,
        answer_by_ms=NOW_MS - HOUR_MS,
    ),
    RoomConfirmation(target=REFERENCE, granted=True),
    IncidentEvent(stage=Stage.OPENED, at_ms=NOW_MS, text="Power failure, building C"),
    Card(title="Bed 7", patient="MRN 4711"),
    Moderators(users=(ANN, BOB)),
    Mute(user=BOB, until_ms=NOW_MS),
    HistoryHandOver(
        originals=(
            Original(
                message=REFERENCE,
                at_ms=NOW_MS,
                message_hash=bytes(range(32)),
                content=encode(Text(text="Bed 7 is ready.")),
            ),
        )
    ),
    Official(statements=(b"statement",), blobs=(b"share",)),
    EmergencyRequest(about="Bed 7", reason="Arrest; I am the registrar on call"),
    EmergencyVouch(user=BOB, until_ms=NOW_MS, reason="Arrest in bed 7", statement=b"statement"),
)
