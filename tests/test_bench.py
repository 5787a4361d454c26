"""What programs of bench/ print of their results."""

from __future__ import annotations

from bench.accuracy.ablation import table


def test_the_table_of_variants_has_columns_for_what_was_tested():
    rendered, photos = [3.0, 4.0, 5.0, 4.0], [6.0, 7.0, 11.25, 8.08]
    assert table({"nothing": {"rendered": rendered}}) == [
        "left out  rendered: yaw pitch roll MAE",
        "nothing      3.00   4.00   5.00   4.00",
    ]
    both = {"rendered": rendered, "AFLW2000": photos}
    assert table({"noise": {"rendered": rendered}, "blur": both}) == [
        "left out  rendered: yaw pitch roll MAE  AFLW2000: yaw pitch roll MAE",
        "noise        3.00   4.00   5.00   4.00",
        "blur         3.00   4.00   5.00   4.00     6.00   7.00  11.25   8.08",
    ]
