"""Delivery programs, pipes and hooks that misbehave in every way a program can: what becomes of the mail, and
that nothing of them is left."""

import contextlib
import json
import os
import pathlib
import re
import signal
import sys
import threading

import pytest

import harness
from smtpclient import Client, send

KINDS = ["mda", "pipe", "hook"]

# Takes its input whole, and does what the message says.
OBEY = "#!/bin/sh\nrun=$(sed -n 's/^X-Run: //p')\neval \"$run\"\n"


class Server:
    """A chasq with a program as delivery program, pipe or hook post-data."""

    def __init__(self, chasq, box, kind, text=OBEY, **kwargs):
        self.kind = kind
        self.program = box.path / "program"
        self.rcpt = "prog@here.test" if kind == "pipe" else "user@here.test"
        conf = {"mail_delivery_agent_bin": str(self.program)} if kind == "mda" else {}
        self.c = chasq(start=False, conf={**conf, **kwargs.pop("conf", {})}, domains={"here.test": {
            "users": ["user"], "aliases": f"prog: | {self.program} argument\n"}}, **kwargs)
        if kind == "hook":
            (self.c.dir / "hooks").mkdir()
            self.program = self.c.dir / "hooks/post-data"
        self.program.write_text(text)
        self.program.chmod(0o755)

    def start(self, **kwargs):
        self.c.start(**kwargs)
        return self

    def give(self, runs, timeout=60):
        """One message for each script in one session; returns what became of each: the code of the
        attempt, for hooks that of the reply."""
        ids = []
        with Client(self.c.port, timeout=timeout) as client:
            client.hello()
            for run in runs:
                reply = client.message("", self.rcpt, f"X-Run: {run}\r\n\r\ntext\r\n", None)
                ids.append(reply.code if self.kind == "hook" else reply.text.split()[-1])
        return ids if self.kind == "hook" else [self.verdict(i) for i in ids]

    def verdict(self, message):
        found = harness.wait_for(
            lambda: re.search(rf'^{re.escape(message)} (?:sent|failed|deferred) .* by={self.kind} .*status="(\d+)',
                              self.c.log(), re.M), 60, lambda: f"a verdict of {message}\n" + self.c.log()[-3000:])
        return int(found[1])

    def still_serves(self):
        with Client(self.c.port) as client:
            client.hello()
            client.cmd("NOOP", 250)
        no_children(self.c)


@pytest.fixture
def serve(chasq, box):
    return lambda kind, text=OBEY, start=True, **kwargs: (
        Server(chasq, box, kind, text, **kwargs).start() if start else Server(chasq, box, kind, text, **kwargs))


def processes():
    """{pid: (state, parent, real user)}"""
    found = {}
    for p in pathlib.Path("/proc").iterdir():
        if not p.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            f = (p / "stat").read_text().rsplit(") ", 1)[1].split()
            found[int(p.name)] = (f[0], int(f[1]), p.stat().st_uid)
    return found


def children(pid):
    return {p: v for p, v in processes().items() if v[1] == pid}


def no_children(c, seconds=10):
    """Neither a process nor a zombie is left below the server."""
    harness.wait_for(lambda: not children(c.pid), seconds, lambda: f"no children, but there are {children(c.pid)}")


def alive(pid):
    return processes().get(pid, "Z")[0] != "Z"


def noted(path):
    harness.wait_for(lambda: path.exists() and path.read_text().endswith("\n"), 20, f"{path}")
    return int(path.read_text())


# The C library keeps these to itself: sigaction() refuses them, and who was started by posix_spawn()
# finds them ignored, with all its children.
OF_THE_C_LIBRARY = (32, 33)


# What a time-out, and a program that fails without a word of its own, mean to each.
LATER = {"mda": 451, "pipe": 554, "hook": 451}
FAILED = {"mda": 550, "pipe": 554, "hook": 451}


# ---- ends ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_exit_code(serve, kind):
    """MDA: 75 is transient, and 127, a shell's word for what cannot be started; else permanent. Pipe:
    permanent. Hook: 20 is permanent, else transient."""
    codes = range(256) if harness.FULL else (0, 1, 2, 19, 20, 21, 64, 74, 75, 76, 126, 127, 128, 137, 254, 255)
    s = serve(kind)
    expected = {code: 250 if code == 0 else FAILED[kind] for code in codes}
    if kind == "mda":
        expected.update({75: 451, 127: 451})
    if kind == "hook":
        expected[20] = 554
    assert dict(zip(codes, s.give(f"exit {code}" for code in codes))) == expected
    s.still_serves()


@pytest.mark.parametrize("kind", KINDS)
def test_every_signal(serve, short_build, kind):
    """Whatever the program dies of by itself is a failure; what ends it from outside says nothing of the message;
    what stops it ends by the time limit."""
    s = serve(kind, program=short_build)
    alone = (signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH)
    stopping = (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
    numbers = range(1, signal.SIGRTMAX + 1) if harness.FULL else [*range(1, 32), 34, 50, 64]
    deadly = [n for n in numbers if n not in alone + stopping + OF_THE_C_LIBRARY]
    kill = "kill -%d $$; exit 0"
    results = dict(zip(deadly, s.give(kill % n for n in deadly)))
    outside = (signal.SIGHUP, signal.SIGINT, signal.SIGKILL, signal.SIGTERM)
    assert results == {n: 451 if n in outside else FAILED[kind] for n in deadly}
    assert s.give(kill % n for n in alone) == [250] * len(alone)
    # In a group that nobody could continue only SIGSTOP stops (POSIX: orphaned process groups).
    assert s.give([kill % signal.SIGSTOP]) == [LATER[kind]]
    s.still_serves()


@pytest.mark.parametrize("kind", KINDS)
def test_not_startable(serve, kind):
    """Not there (a hook that is not there is none), not executable, a directory, no interpreter, no
    program."""
    s = serve(kind)
    expected = LATER[kind]
    p = s.program
    p.chmod(0o644)
    assert s.give(["x"]) == [expected]
    p.unlink()
    assert s.give(["x"]) == [250 if kind == "hook" else expected]
    p.mkdir()
    assert s.give(["x"]) == [expected]
    p.rmdir()
    for content in (b"#!/not/there\n", b"", b"exit 0\n", b"\x7fELF garbage", b"#!" + b"x" * 5000):
        p.write_bytes(content)
        p.chmod(0o755)
        assert s.give(["x"]) == [expected], content[:20]
    p.write_text(OBEY)
    assert s.give(["exit 0"]) == [250]
    s.still_serves()


# ---- hanging ------------------------------------------------------------------------------------


HANGS = {
    "sleeps": "sleep 1000",
    "ignores-term": "trap '' TERM HUP INT; while :; do sleep 1; done",
    "closes-all": "exec <&- >&- 2>&-; sleep 1000",
    "stops": "kill -STOP $$",
    "stops-with-children": "sleep 1000 & sleep 1000 & kill -STOP 0",
    "spins": "while :; do :; done",
    "floods": "trap '' TERM; yes & yes >&2",
    "waits-for-grandchildren": "(trap '' TERM; sleep 1000) & (sleep 1000 & wait) & wait",
}


@pytest.mark.parametrize("kind", KINDS)
def test_hanging(serve, short_build, kind):
    """All at once: each is ended at its time limit with its whole group, and is a time-out."""
    s = serve(kind, program=short_build)
    results = {}

    def one(name):
        results[name] = s.give([HANGS[name]])[0]

    threads = [threading.Thread(target=one, args=(n,)) for n in HANGS]
    for t in threads:
        t.start()
    for t in threads:
        t.join(90)
    assert results == dict.fromkeys(HANGS, LATER[kind])
    s.still_serves()


@pytest.mark.parametrize("kind", KINDS)
def test_input_not_read(serve, kind):
    """A program that closes its input at once, or never reads it, is judged by its exit alone."""
    s = serve(kind, "#!/bin/sh\nexec <&-\nexit 0\n")
    with Client(s.c.port, timeout=30) as client:
        client.hello()
        client.message("", s.rcpt, b"Subject: x\r\n\r\n" + b"a line of text\r\n" * 200000)
    s.c.wait_queue_empty()
    s.still_serves()


@pytest.mark.parametrize("kind", KINDS)
def test_output_held_open(serve, kind, box):
    """Who keeps the output open behind the program's back neither holds up the mail, nor lives on: in the
    group it is killed. Out of the group it has cut itself loose: it lives, without our pipe, and is reaped."""
    stays, leaves = box.path / "stays", box.path / "leaves"
    s = serve(kind)
    assert s.give([f"sleep 1000 & echo $! >{stays}; setsid sleep 1000 & echo $! >{leaves}; sleep 0.3"]) == [250]
    harness.wait_for(lambda: not alive(noted(stays)), 10, "the one in the group to end")
    loose = noted(leaves)
    assert alive(loose)
    assert processes()[loose][1] == s.c.pid, "orphans are the server's"
    os.kill(loose, signal.SIGKILL)
    s.still_serves()


@pytest.mark.parametrize("kind", KINDS)
def test_orphans_are_reaped(serve, kind):
    """Grandchildren that end after the program has are not left as zombies to nobody."""
    s = serve(kind)
    run = "for i in 1 2 3 4 5; do setsid sleep 0.$i >/dev/null 2>&1 & done"
    assert s.give([run] * 5) == [250] * 5
    s.still_serves()


# ---- a fork bomb --------------------------------------------------------------------------------

BOMB = f"""#!{sys.executable}
import os
if "X-Run: bomb" in open(0).read():
    while True:
        try:
            os.fork()
        except OSError:
            pass
"""


@pytest.mark.parametrize("kind", KINDS)
def test_fork_bomb(serve, short_build, kind):
    """It fills its share of the user's processes, no more; others are served meanwhile, programs are
    still started, and all of it is gone after its time."""
    if os.getuid() != 0:
        pytest.skip("another user with no processes of his own: needs root")
    uid = 60000 + os.getpid() % 5000
    assert not [p for p, v in processes().items() if v[2] == uid]
    s = serve(kind, BOMB, start=False, program=short_build)
    os.chown(s.c.dir, uid, uid)
    s.start(wrap=["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "prlimit", "--nproc=80"])
    most, after = 0, []
    threads = [threading.Thread(target=lambda: after.extend(s.give(["bomb"])))]
    threads[0].start()
    while threads[0].is_alive():
        most = max(most, len([p for p, v in processes().items() if v[2] == uid]))
        Client(s.c.port, timeout=30).close()
        if most >= 50 and len(threads) == 1:
            # Starved, maybe, but started.
            threads.append(threading.Thread(target=s.give, args=(["nothing"],)))
            threads[1].start()
    for t in threads:
        t.join()
    assert after == [LATER[kind]]
    # Three quarters of 80: the daemon is one, and may start more.
    assert 50 <= most <= 70
    assert len(threads) == 2 and "could not be started" not in s.c.log()
    s.still_serves()
    assert [p for p, v in processes().items() if v[2] == uid] == [s.c.pid]
    assert s.give(["nothing"]) == [250]


# ---- what it is given ---------------------------------------------------------------------------

SHOW = f"""#!{sys.executable}
import json, os, resource, signal, sys
limits = {{n: resource.getrlimit(getattr(resource, "RLIMIT_" + n)) for n in ("CORE", "NPROC", "DATA", "NOFILE", "CPU")}}
status = dict(l.split(":", 1) for l in open("/proc/self/status"))
fds = [fd for fd in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + fd)]
out = dict(argv=sys.argv, env=dict(os.environ), limits=limits, fds=sorted(map(int, fds)), pid=os.getpid(),
           group=os.getpgrp(), cwd=os.getcwd(), blocked=status["SigBlk"].strip(), ignored=status["SigIgn"].strip(),
           input=sys.stdin.buffer.read().decode("latin-1"), ppid=os.getppid())
with open(@OUT@ + ".new", "w") as f:
    json.dump(out, f)
os.rename(@OUT@ + ".new", @OUT@)
"""


def shown(box):
    path = box.path / "shown"
    harness.wait_for(path.exists, 20, "the program's report")
    return json.loads(path.read_text())


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_child_gets(serve, box, kind):
    """A group of its own, three descriptors, no ignored signals, the environment that is promised, limits,
    and the complete message; though the server was started with a leaked descriptor, ignored and blocked
    signals, and secrets in its environment."""
    out = str(box.path / "shown")
    s = serve(kind, SHOW.replace("@OUT@", repr(out)), start=False)
    leak = ("import os, resource, signal, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (2000, 2000)); signal.signal(signal.SIGUSR1, signal.SIG_IGN); signal.signal(signal.SIGHUP, 1);"
            "[os.dup2(os.open('/dev/null', 0), fd) for fd in (77, 900, 1500)];"
            "signal.pthread_sigmask(0, [signal.SIGUSR2, signal.SIGRTMAX]); os.execv(sys.argv[1], sys.argv[1:])")
    s.start(wrap=[sys.executable, "-c", leak],
            env={"SECRET": "x", "LD_LIBRARY_PATH": "/nowhere", "IFS": "x", "BASH_ENV": "/x", "ENV": "/x"})
    body = b"Subject: x\r\n\r\n" + b"a line of text\r\n" * 100000 + b"the end\r\n"
    send(s.c.port, "a@client.test", [s.rcpt], body, timeout=60)
    got = shown(box)
    assert got["fds"] == [0, 1, 2]
    assert got["group"] == got["pid"] and got["ppid"] == s.c.pid
    # The interpreter ignores SIGPIPE and SIGXFSZ itself.
    others = sum(1 << n - 1 for n in (signal.SIGPIPE, signal.SIGXFSZ, *OF_THE_C_LIBRARY))
    assert int(got["ignored"], 16) & ~others == 0
    assert int(got["blocked"], 16) == 0
    assert got["input"].endswith("a line of text\nthe end\n") and got["input"].count("a line of text\n") == 100000
    common = {"SENDER", "RECIPIENT", "PATH", "LANG"}
    hook = {"USER", "PWD", "SHELL", "PATH", "REMOTE_ADDR", "EHLO_DOMAIN", "EHLO_DOMAIN_RAW", "MAIL_FROM", "RCPT_TO",
            "AUTH_AS", "ON_TLS", "FROM_LOCAL_DOMAIN", "SPF_PASS"}
    # LC_CTYPE is the interpreter's own.
    assert set(got["env"]) - {"LC_CTYPE"} == (hook if kind == "hook" else common)
    limits = got["limits"]
    assert limits["CORE"] == [0, 0]
    assert 0 < limits["NPROC"][1] <= 2048
    assert limits["DATA"][1] == 2 << 30
    assert limits["NOFILE"][1] == 1024
    assert limits["CPU"][1] == 16 * ((60 if kind == "hook" else 30) + 1)
    s.still_serves()


def test_core_is_not_dumped(serve, box):
    """A program that crashes leaves no copy of the mail in the directory of the configuration."""
    s = serve("mda", start=False)
    s.start(wrap=["prlimit", "--core=unlimited"])
    assert s.give(["kill -SEGV $$"]) == [550]
    assert not list(s.c.dir.glob("core*"))
    s.still_serves()


@pytest.mark.parametrize("limit", ["memory", "descriptors"])
def test_limits_bite(serve, limit):
    """A program that takes more than it may fails by itself, and the limit cannot be raised again."""
    s = serve("hook", f"#!{sys.executable}\nimport sys, resource\n" + {
        "memory": "resource.setrlimit(resource.RLIMIT_DATA, (1 << 30, 2 << 30))\n"
                  "try:\n    bytearray(1500 << 20)\nexcept MemoryError:\n    sys.exit(20)\n",
        "descriptors": "try:\n    x = [open('/dev/null') for i in range(1100)]\nexcept OSError:\n    sys.exit(20)\n",
    }[limit])
    assert s.give(["x"]) == [554]
    s.still_serves()
