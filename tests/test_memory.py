"""What malloc does for MLX's arrays on Linux: freed memory stays, and its pages are large."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAP = """
import resource
import mlx_headpose, mlx.core as mx
mx.set_default_device(mx.cpu)

def heap(flag):
    text = open("/proc/self/smaps").read()
    parts = text[text.index("[heap]"):].split("[stack]")[0].splitlines()
    return [line for line in parts if line.startswith(flag)]

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() >> 20

before = resident()
x = mx.ones((64 << 20,), mx.uint8)
mx.eval(x)
full = resident()
del x
print(before, full, resident())
print(*heap("VmFlags"))
"""


@pytest.mark.skipif(
    not Path("/sys/kernel/mm/transparent_hugepage").exists(),
    reason="only Linux, and only a kernel with large pages",
)
def test_malloc_keeps_what_is_freed_in_large_pages():
    done = subprocess.run([sys.executable, "-c", HEAP], capture_output=True, text=True, check=True)
    sizes, flags = done.stdout.splitlines()
    before, full, after = map(int, sizes.split())
    assert before < 256, "what is reserved must not be resident"
    assert full - before >= 60
    assert after >= full - 4
    assert " hg" in flags  # "huge page advise flag", see proc(5)


LIMITED = """
import resource
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
import mlx_headpose, mlx.core as mx
mx.set_default_device(mx.cpu)
x = mx.ones((512, 512))
mx.eval(x @ x)
size = next(line for line in open("/proc/self/status") if line.startswith("VmSize"))
print(int(size.split()[1]) >> 10)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux's malloc is changed")
def test_nothing_is_reserved_under_a_limit_on_addresses():
    def size(code):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
        )
        return int(done.stdout)

    unlimited = LIMITED.replace("resource.setrlimit(", "(")
    assert size(unlimited) - size(LIMITED) > 500  # MiB
