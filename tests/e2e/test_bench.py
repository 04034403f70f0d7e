"""bench/: its programs build without a warning, and it measures; what it measures is not for here."""

import os
import re
import shutil
import subprocess
import sys

import pytest

import harness

BENCH = harness.TREE / "bench"
FLAGS = ["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Wpedantic", "-Wundef", "-Wshadow", "-Wconversion",
         "-Werror", "-O2"]
LIBRARIES = {"handshake.c": ["-lmbedtls", "-lmbedx509", "-lmbedcrypto"]}


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_programs_build(box, compiler):
    if not shutil.which(compiler):
        pytest.skip(f"{compiler} is missing")
    for source in sorted(BENCH.glob("*.c")):
        done = subprocess.run([compiler, *FLAGS, "-o", box.path / source.stem, source,
                               *LIBRARIES.get(source.name, [])], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.mark.skipif(os.getuid() != 0, reason="needs root: loop devices")
def test_measures():
    """Tiny counts, chasq and the bare servers, a loop device each."""
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    for name in ("losetup", "mkfs.ext4", "strip"):
        if not shutil.which(name, path=path):
            pytest.skip(f"{name} is missing")
    done = subprocess.run([sys.executable, BENCH / "run.py", "--quick", "accept", "size", "--rows", "100 sessions", "1 session",
                           "--chasq", harness.fast_binary(), "--servers", "chasq", "bare log"],
                          capture_output=True, text=True, timeout=120, check=False)
    if "losetup" in done.stdout and "Left out" in done.stdout:
        pytest.skip("no loop devices: " + done.stdout.rsplit("Left out", 1)[1][:300])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Left out" not in done.stdout, done.stdout
    number = r"[\d.]+( \([\d.]+\.\.[\d.]+\))?"
    assert re.search(rf"^\| 100 sessions kept \| {number} \| {number} \| \*\*", done.stdout, re.M), done.stdout
    assert re.search(rf"^\| 1 session \| {number} \| {number} \|", done.stdout, re.M), done.stdout
    assert re.search(rf"^\| program, KB \| {number} \| {number} \|", done.stdout, re.M), done.stdout
    assert "| accept, 100 sessions: of bare log | at least 0.75 |" in done.stdout
