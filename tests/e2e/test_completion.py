"""The completion for bash, in a real one: what it offers, with a server and without."""

import shutil
import subprocess
import time

import pytest

import harness
from harness import wait_for

FILE = harness.TREE / "etc/bash-completion/chasq"

pytestmark = pytest.mark.skipif(not shutil.which("bash"), reason="no bash")


@pytest.fixture
def complete(box):
    """What bash offers for the last of some words."""
    binary = box.dir("bin") / "chasq"
    binary.symlink_to(harness.binary())

    def run(*words):
        script = ('source "$1"; shift; compgen -A nosuch 2>/dev/null; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
                  'COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}; '
                  'f=$(complete -p "${1##*/}"); f=${f#*-F }; "${f%% *}"; '
                  'printf "%s\\n" "${COMPREPLY[@]}"')
        first = str(binary) if words[0] == "chasq" else words[0]
        r = subprocess.run(["bash", "--norc", "-c", script, "bash", FILE, first, *map(str, words[1:])],
                           capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL, check=False,
                           cwd=box.path)
        assert not r.stderr, r.stderr
        return [line for line in r.stdout.splitlines() if line]

    return run


def test_without_a_server(complete, box):
    names = complete("chasq", "")
    listing = subprocess.run([harness.binary(), "help"], capture_output=True, text=True, check=True).stdout
    assert sorted(names) == sorted(line.split()[0] for line in listing.splitlines() if line.startswith("  "))
    assert complete("chasq", "re") == ["release", "remove", "resolve", "reload"]
    assert complete("chasq", "queue", "--j") == ["--json"]
    assert complete("chasq", "trace", "-") == ["-f", "--follow", "-n", "--lines", "-C", "--help"]
    assert complete("mailq", "--") == ["--json", "--help"]
    assert "-V" in complete("chasq", "-")
    assert complete("chasq", "domaininfo", "f") == ["forget"]
    assert complete("chasq", "trace", "del") == ["delivery"]
    (box.path / "conf d").mkdir()
    assert complete("chasq", "queue", "-C", str(box.path / "conf")) == [str(box.path / "conf d")]
    begun = time.monotonic()
    assert complete("chasq", "show", "-C", str(box.path), "") == []
    assert complete("chasq", "flush", "-C", "/nonexistent", "") == []
    assert time.monotonic() - begun < 5


def test_with_a_server(chasq, complete, box):
    """IDs and domains, and nothing that a stranger wrote is run."""
    c = chasq()
    odd = '"$(touch owned)`x`;*"@far.test'
    for rcpt in ("b@far.test", odd, "b@else.test"):
        assert c.sendmail("-f", "me@here.test", "--", rcpt, input=b"\nx\n").returncode == 0
    wait_for(lambda: len(c.queued()) == 3, 10)
    ids = [p.name[2:] for p in c.queued()]
    assert sorted(complete("chasq", "show", "-C", c.dir, "")) == sorted(ids)
    assert complete("chasq", "remove", "-C", c.dir, ids[0]) == [ids[0]]
    assert sorted(complete("chasq", "flush", "-C", c.dir, "")) == sorted([*ids, "far.test", "else.test"])
    assert complete("chasq", "hold", "-C", c.dir, "el") == ["else.test"]
    assert complete("chasq", "release", "-C", c.dir, "") == []
    assert c.run("hold", "far.test", "-C", c.dir).returncode == 0
    assert complete("chasq", "release", "-C", c.dir, "") == ["far.test"]
    assert not (box.path / "owned").exists()


@pytest.mark.skipif(not (harness.TREE / "chasq").exists(), reason="not built with make")
def test_installed(box):
    subprocess.run(["make", "-s", "-C", harness.TREE, "-o", "chasq", "install", f"DESTDIR={box.path}", "PREFIX=/usr"],
                   check=True, capture_output=True, timeout=60)
    where = box.path / "usr/share/bash-completion/completions"
    assert (where / "chasq").read_bytes() == FILE.read_bytes()
    assert (where / "mailq").resolve() == (where / "chasq").resolve()
