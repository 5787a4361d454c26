"""What the package shows to those who import it."""

from __future__ import annotations

import mlx_headpose


def test_the_package_shows_what_is_public_and_nothing_else() -> None:
    assert dir(mlx_headpose) == sorted(mlx_headpose.__all__)
    for name in dir(mlx_headpose):
        assert getattr(mlx_headpose, name) is not None
