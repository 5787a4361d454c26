"""What programs of bench/ print of their results."""

from __future__ import annotations

import numpy as np
from PIL import Image

from bench.accuracy.ablation import table
from bench.accuracy.absence import above, measure
from mlx_headpose.synthetic.rendered import write_list
from mlx_headpose.weights import BUNDLED


def test_the_table_of_variants_has_columns_for_what_was_tested():
    rendered = {"rendered: yaw pitch roll MAE": [3.0, 4.0, 5.0, 4.0]}
    assert table({"nothing": rendered}) == [
        "left out  rendered: yaw pitch roll MAE",
        "nothing      3.00   4.00   5.00   4.00",
    ]
    both = rendered | {"AFLW2000: yaw pitch roll MAE": [6.0, 7.0, 11.25, 8.08]}
    assert table({"noise": rendered, "blur": both}) == [
        "left out  rendered: yaw pitch roll MAE  AFLW2000: yaw pitch roll MAE",
        "noise        3.00   4.00   5.00   4.00",
        "blur         3.00   4.00   5.00   4.00     6.00   7.00  11.25   8.08",
    ]


def test_what_is_surer_than_most_that_shows_no_head():
    confidences = np.array([0.1 * i for i in range(11)] + [0.5, 0.89, 0.91, 1.0])
    there = np.arange(15) >= 11
    assert above(confidences, there)[there].tolist() == [False, False, True, True]


def test_crops_with_heads_and_without_are_measured(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for name in ("0.png", "1.png", "2.png"):
        Image.fromarray(pixels).save(tmp_path / name)
    box = ["4", "4", "56", "56"]
    rows = [["0.png", *box, "30", "0", "0", *box], ["1.png", *box, "", "", "", *box]]
    write_list(tmp_path / "heads.csv", [*rows, ["2.png", *box, "-30", "0", "0", *box]])
    poses, errors, confidences = measure(BUNDLED, tmp_path)
    assert np.isnan(poses[:, 0]).tolist() == np.isnan(errors).tolist() == [False, True, False]
    assert errors[0] + errors[2] > 30  # nearly the same crops cannot be both
    assert (confidences > 0).all()
    assert (confidences < 1).all()
