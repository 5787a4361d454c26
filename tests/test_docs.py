"""The examples in the documentation run."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from PIL import Image

from mlx_headpose import data
from mlx_headpose import methods as models
from mlx_headpose.evaluation.evaluate import evaluate

DOCS = Path(__file__).resolve().parent.parent / "docs"


def load_example(page, name, folder, monkeypatch):
    """The marked Python file of a page, imported as a module."""
    text = (DOCS / page).read_text(encoding="utf-8")
    code = re.search(r"<!-- a test runs this file -->\n```python\n(.*?)```", text, re.S)
    assert code is not None
    (folder / f"{name}.py").write_text(code.group(1), encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    sys.modules.pop(name, None)
    return importlib.import_module(name)


def test_the_example_method_trains_and_decodes(tmp_path, monkeypatch):
    module = load_example("adding-a-method.md", "sixd", tmp_path, monkeypatch)
    model = module.build(module.Config())
    images = mx.array(np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8))
    pose = mx.array([[20.0, 10.0, -5.0], [-40.0, 0.0, 15.0]])
    loss, parts = model.loss(model(images), pose)
    assert loss.item() > 0
    assert set(parts) == {"geodesic"}
    model.eval()
    assert model.decode(model(images)).shape == (2, 3)
    assert models.config_class("hopenet") is not module.Config


def test_the_example_dataset_is_evaluated(tmp_path, monkeypatch):
    module = load_example("adding-a-dataset.md", "listed", tmp_path, monkeypatch)
    Image.new("RGB", (80, 80), "grey").save(tmp_path / "a.png")
    (tmp_path / "list.csv").write_text(
        "image,x,y,width,height,yaw,pitch,roll\na.png,20,20,40,40,10,0,-5\n"
    )
    dataset = module.open_dataset(tmp_path, None)
    assert isinstance(dataset, data.Dataset)
    config = models.config_class("hopenet")(arch="squeezenet1_1")
    model = models.build(config)
    model.eval()
    assert evaluate(model, dataset).poses.tolist() == [[10, 0, -5]]


@pytest.mark.parametrize("page", [*DOCS.glob("*.md"), DOCS.parent / "README.md"], ids=str)
def test_links_and_pictures_are_there(page):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target
