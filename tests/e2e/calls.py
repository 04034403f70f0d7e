"""How many system calls a process makes: counted by strace, for the tests that hold a bound.

    with calls.counted(box, c.pid) as made:
        ...
    assert made.total / messages < 50, made
"""

import contextlib
import re
import shutil
import signal

import pytest

import harness


class Made:
    """The calls by name; as text, those that count, the most frequent first."""

    def __init__(self):
        self.by_name = {}

    @property
    def total(self):
        return sum(self.by_name.values())

    def of(self, *names):
        return sum(self.by_name.get(n, 0) for n in names)

    def __str__(self):
        return " ".join(f"{n} {count}" for n, count in sorted(self.by_name.items(), key=lambda x: -x[1]))


@contextlib.contextmanager
def counted(box, pid):
    """Counts what the process does inside the block; skips the test where it cannot be traced."""
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    made = Made()
    out = box.dir("strace") / "calls"
    tracer = box.process(["strace", "-f", "-c", "-o", out, "-p", pid], "strace")
    harness.wait_for(lambda: "attached" in tracer.log() or not tracer.running(), 20, "strace to attach")
    if "attached" not in tracer.log():
        pytest.skip(f"a process cannot be traced here: {tracer.log().strip()[-100:]}")
    yield made
    tracer.kill(signal.SIGINT)
    tracer.wait(20)
    rows = re.finditer(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", out.read_text(), re.M)
    made.by_name = {m[2]: int(m[1]) for m in rows if m[2] != "total"}
    assert made.total > 0, out.read_text()
