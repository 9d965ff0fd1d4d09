"""What a person asked for is done once: who left and was let in again stays in."""

from __future__ import annotations

from pathlib import Path

from protocol.identifiers import ConversationId, UserName
from tests.client.devices import Running
from tests.scenarios.blackbox import hospital_with_archive
from tests.scenarios.test_archive_devices import WAIT_S, begun
from tests.scenarios.test_both_restored import THREE, first_word

BEN, CAT = UserName("ben"), UserName("cat")


def users(who: Running, conversation: ConversationId) -> set[UserName]:
    return {one.user for one in who.device.members(conversation)}


async def test_who_left_and_was_let_in_again_is_in_also_after_the_archive_starts_anew(
    tmp_path: Path,
) -> None:
    async with hospital_with_archive(tmp_path, list(THREE)) as (organisation, _, box):
        ann, ben, cat = [await begun(tmp_path, organisation, box, name) for name in THREE]
        conversation = await first_word(ann, ben, cat)

        async def sees(who: Running, user: UserName, *, gone: bool) -> None:
            await who.until(
                lambda: (user in users(who, conversation)) is not gone,
                within_s=WAIT_S,
            )

        await cat.device.leave(conversation)
        await sees(ann, CAT, gone=True)
        await ann.device.change_members(conversation, add=[CAT])
        await sees(ann, CAT, gone=False)
        await cat.in_epoch(conversation, ann.epoch(conversation))
        await box.stop()
        box.start()
        # What was asked for later is done later.
        await ben.device.leave(conversation)
        await sees(ann, BEN, gone=True)
        assert CAT in users(ann, conversation)
        for one in (ann, ben, cat):
            await one.end()
