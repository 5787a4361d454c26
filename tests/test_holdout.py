"""Which samples validate where no other set does."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from support.toy_training import ToySet

from mlx_headpose.cli.options import make_config
from mlx_headpose.cli.train import parse
from mlx_headpose.cli.train_start import open_sets
from mlx_headpose.data.holdout import divided
from mlx_headpose.data.yaw_balanced import YawBalanced


def test_the_last_twentieth_validates_and_its_mirror_images_do_not_train() -> None:
    dataset = ToySet(120)
    dataset.ids = [f"{f}/{i:03d}" for f in ("AFW", "LFPW", "LFPW_Flip") for i in range(40)]
    trains, validates = divided(dataset)
    names = np.array(dataset.ids)
    assert names[validates].tolist() == [f"LFPW_Flip/{i:03d}" for i in range(34, 40)]
    assert set(names) - set(names[trains]) - set(names[validates]) == {
        f"LFPW/{i:03d}" for i in range(34, 40)
    }
    dataset.ids = [name.replace("LFPW_Flip", "Z").replace("LFPW", "Z_Flip") for name in dataset.ids]
    trains, validates = divided(dataset)
    names = np.array(dataset.ids)
    assert "Z/039" in names[validates]
    assert "Z_Flip/039" not in names[trains]


def test_of_joined_sets_each_gives_its_last_twentieth() -> None:
    first, second = ToySet(40), ToySet(400, seed=1)
    second.ids = [f"other{name}" for name in second.ids]
    joined = YawBalanced(first, second)
    _, validates = divided(joined)
    held = [name for name, kept in zip(joined.ids, validates, strict=True) if kept]
    assert [name for name in held if name.startswith("picture")] == ["picture38", "picture39"]
    count = len(joined) - 40
    assert len(held) == 2 + max(count // 20, 1)
    assert held[-1] == joined.ids[-1]


def test_300w_lp_is_divided_by_photos(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    photos = shared / "data" / "300W_LP" / "AFW"
    for name in ("AFW", "LFPW", "LFPW_Flip"):
        shutil.copytree(photos, Path("300W_LP") / name)
    args, _ = parse("train.py", ["--dataset", "300W_LP", "--data_dir", "300W_LP"])
    said: list[str] = []
    sets = open_sets(args, make_config(args, "hopenet"), Path("run"), said.append)
    assert sets.held_out == ["LFPW_Flip/AFW_56054945_1_0"]
    assert "LFPW/AFW_56054945_1_0" not in sets.training.ids
    assert len(sets.training) == 4
    assert "Their mirror images do not train either (1)." in said
