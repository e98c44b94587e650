"""What an upload without an end has sent, as the journal says it."""

from __future__ import annotations

import pytest

from synofs.content.attempt import Sent, decoded


@pytest.mark.parametrize("damage", ["x:md5", ":md5", "-1:md5", "7:", "7", f"{'9' * 5000}:md5", "٣:md5"])
def test_a_damaged_word_is_left_out_and_the_others_count(damage: str) -> None:
    assert decoded(f"5:aa {damage} 6:bb") == (Sent(5, "aa"), Sent(6, "bb"))
