"""The optimised BLAS is found, loaded before MLX, and can be switched off."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from mlx_headpose import cpu

CODE = "import mlx_headpose; maps = open('/proc/self/maps').read(); print('openblas' in maps)"
pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="only Linux's CPU build needs another BLAS"
)


def in_process(**environment):
    return subprocess.run(
        [sys.executable, "-c", CODE],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **environment},
    )


def test_it_is_loaded_silently():
    pytest.importorskip("cv2", reason="no wheel here that carries an optimised BLAS")
    done = in_process(MLX_HEADPOSE_BLAS="1")
    assert (done.stdout.strip(), done.stderr) == ("True", "")


def test_it_can_be_switched_off():
    done = in_process(MLX_HEADPOSE_BLAS="0")
    assert (done.stdout.strip(), done.stderr) == ("False", "")


def test_one_switch_leaves_the_process_as_it_is():
    done = in_process(MLX_HEADPOSE_BLAS="1", MLX_HEADPOSE_NO_TUNING="1")
    assert (done.stdout.strip(), done.stderr) == ("False", "")


@pytest.mark.parametrize(("setting", "tuned"), [("1", False), ("0", True), ("", True)])
def test_the_switch_is_for_malloc_and_blas(monkeypatch, setting, tuned):
    called = []
    monkeypatch.setattr(cpu, "keep_freed_memory", lambda: called.append("malloc"))
    monkeypatch.setattr(cpu, "load_optimised_blas", lambda: called.append("blas"))
    monkeypatch.setenv("MLX_HEADPOSE_NO_TUNING", setting)
    cpu.tune()
    assert called == (["malloc", "blas"] if tuned else [])


@pytest.mark.parametrize(
    ("flags", "kernels"),
    [
        ("fpu avx avx2 fma avx512f avx512dq avx512bw avx512vl", "SkylakeX"),
        ("fpu avx avx2 fma avx512f", "Haswell"),
        ("fpu avx", None),
    ],
)
def test_kernels_by_what_the_processor_can_do(flags, kernels):
    from mlx_headpose.cpu import blas as _blas

    assert _blas.core_type(f"model name\t: X\nflags\t\t: {flags}\nbugs\t: a\n") == kernels
    assert _blas.core_type("Features\t: asimd") is None


def test_the_kernels_are_chosen_unless_someone_did(monkeypatch):
    from mlx_headpose.cpu import blas as _blas

    monkeypatch.setattr(_blas, "core_type", lambda cpuinfo: "SkylakeX")
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    with _blas.best_kernels():
        assert os.environ["OPENBLAS_CORETYPE"] == "SkylakeX"
    assert "OPENBLAS_CORETYPE" not in os.environ
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Zen")
    with _blas.best_kernels():
        assert os.environ["OPENBLAS_CORETYPE"] == "Zen"


def test_advice_where_mlx_came_first():
    done = subprocess.run(
        [sys.executable, "-c", "import mlx.core, mlx_headpose"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "MLX_HEADPOSE_BLAS": "1"},
    )
    assert done.stderr.count("\n") == 1
    assert "above `import mlx.core`" in done.stderr


def test_advice_where_there_is_none(monkeypatch, capsys):
    from mlx_headpose.cpu import blas as _blas

    monkeypatch.setattr(_blas, "candidates", list)
    monkeypatch.delitem(sys.modules, "mlx.core", raising=False)
    monkeypatch.delenv("MLX_HEADPOSE_BLAS", raising=False)
    assert _blas.load_optimised_blas() is None
    advice = capsys.readouterr().err
    assert advice.count("\n") == 1
    assert "pip install" in advice


@pytest.mark.parametrize(
    ("package", "gpu"), [("mlx_cuda_12-0.32.4", True), ("mlx_cpu-0.32.4", False), (None, False)]
)
def test_a_cuda_build_keeps_its_own_products(monkeypatch, tmp_path, package, gpu):
    from mlx_headpose.cpu import blas as _blas

    (tmp_path / "mlx").mkdir()
    if package is not None:
        (tmp_path / f"{package}.dist-info").mkdir()
    asked = []

    def find(name):
        asked.append(name)
        return SimpleNamespace(submodule_search_locations=[str(tmp_path / "mlx")])

    monkeypatch.setattr(_blas.importlib.util, "find_spec", find)
    assert _blas._gpu_build() == gpu
    assert asked == ["mlx"]
    # Nothing is loaded for such a build, not even where it would be too late to.
    loaded = []
    monkeypatch.setattr(_blas, "candidates", lambda: loaded.append("asked") or [])
    monkeypatch.delitem(sys.modules, "mlx.core", raising=False)
    monkeypatch.delenv("MLX_HEADPOSE_BLAS", raising=False)
    assert _blas.load_optimised_blas() is None
    assert loaded == ([] if gpu else ["asked"])


@pytest.mark.parametrize("spec", [None, SimpleNamespace(submodule_search_locations=None)])
def test_an_mlx_that_lies_nowhere_is_no_cuda_build(monkeypatch, spec):
    from mlx_headpose.cpu import blas as _blas

    monkeypatch.setattr(_blas.importlib.util, "find_spec", lambda name: spec)
    assert not _blas._gpu_build()


def test_threads_can_be_set():
    pytest.importorskip("cv2", reason="no wheel here that carries an optimised BLAS")
    code = (
        "from mlx_headpose.cpu import blas as _blas; print(_blas.threads()); "
        "exec('with _blas.one_thread(): print(_blas.threads())'); "
        "print(_blas.threads()); _blas.set_threads(1); print(_blas.threads())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "2", "MLX_HEADPOSE_BLAS": "1"},
    )
    threads = ["2", "1", "2", "1"] if len(os.sched_getaffinity(0)) > 1 else ["1"] * 4
    assert done.stdout.split() == threads


def test_threads_of_an_openmp_build_are_left_alone(monkeypatch):
    from mlx_headpose.cpu import blas as _blas

    class OpenMP:
        openblas_set_num_threads = None

        def openblas_get_num_threads(self):
            return 4

        def openblas_get_parallel(self):
            return self.parallel

    blas = OpenMP()
    monkeypatch.setattr(_blas.ctypes, "CDLL", lambda name: blas)
    blas.parallel = 1
    assert _blas.threads() == 4
    blas.parallel = 2
    assert _blas.threads() == 1
