"""Where weights are looked for and written, and what hints call the commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlx_headpose import InputError, places
from mlx_headpose.inference.estimator import find_network


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation without the entry scripts."""
    monkeypatch.setattr(places, "_ENTRY_SCRIPTS", tmp_path / "site-packages")


def test_a_checkout_writes_beside_its_scripts() -> None:
    assert places.command("convert --list") == "python convert.py --list"
    assert places.new_weights("a.safetensors") == Path("weights/a.safetensors")


@pytest.mark.usefixtures("wheel")
def test_a_wheel_has_its_own_command_and_a_place_for_every_folder(tmp_path: Path) -> None:
    assert places.command("convert --list") == "mlx-headpose convert --list"
    assert places.command("convert") == "mlx-headpose convert"
    place = places.new_weights("a.safetensors")
    assert place == places.user_folder() / "a.safetensors"
    assert place.is_absolute()
    with pytest.raises(InputError, match="mlx-headpose convert --weight whenet"):
        find_network("whenet")
    place.parent.mkdir(parents=True)
    place.touch()
    assert places.find_weights("b.safetensors", "a.safetensors") == place
    assert find_network("a") == place
    place.unlink()


@pytest.mark.usefixtures("wheel")
def test_a_folder_here_comes_first(tmp_path: Path) -> None:
    Path("weights").mkdir()
    Path("weights/a.safetensors").touch()
    assert places.new_weights("b.safetensors") == Path("weights/b.safetensors")
    assert places.find_weights("a.safetensors") == Path("weights/a.safetensors")


def test_the_variable_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(places.VARIABLE, str(tmp_path / "mine"))
    assert places.new_weights("a.safetensors") == tmp_path / "mine" / "a.safetensors"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.safetensors").touch()
    assert places.find_weights("a.safetensors") == tmp_path / "mine" / "a.safetensors"
