"""The sandbox: what the server and the programs it starts can no longer do, and that mail goes on.

All other tests run in the sandbox, too. Here the server lives outside /tmp, which stays writable, so that
everything it needs has to be in the plan.
"""

import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
import tempfile

import pytest

import certs
import harness
from harness import wait_for
from smtpclient import send

MESSAGE = b"From: <a@client.test>\r\nSubject: s\r\n\r\nbody\r\n"

# Run as a pipe's program: tries what it is given as JSON, answers with the errno of each try.
PROBE = r'''
import ctypes, json, os, platform, signal, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
X86 = platform.machine() == "x86_64"
outside, result, victim, abstract = sys.argv[1:5]
parent = os.getppid()

def answer(function):
    try:
        return function() or 0
    except OSError as e:
        return e.errno

def call(number, *args):
    if not X86:
        return None
    ctypes.set_errno(0)
    args = [ctypes.c_long(a) for a in args]
    return ctypes.get_errno() if libc.syscall(ctypes.c_long(number), *args) < 0 else 0

def read(path):
    with open(path, "rb") as f:
        f.read(1)

def write(path):
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))

def connect():
    s = socket.socket(socket.AF_UNIX)
    s.connect("\0" + abstract)

files = {
    "read": lambda: read(outside + "/secret"),
    "list": lambda: os.listdir(outside) and None,
    "make": lambda: write(outside + "/new"),
    "overwrite": lambda: write(outside + "/secret"),
    "truncate": lambda: os.truncate(outside + "/secret", 0),
    "mkdir": lambda: os.mkdir(outside + "/dir"),
    "remove": lambda: os.unlink(outside + "/victim"),
    "rename": lambda: os.rename(outside + "/victim", outside + "/gone"),
    "link": lambda: os.link(outside + "/secret", result + ".link"),
    "symlink": lambda: os.symlink("/", outside + "/symlink"),
    "run": lambda: os.spawnv(os.P_WAIT, outside + "/program", ["program"]) == 127 and 13 or 0,
    "memory": lambda: read(f"/proc/{parent}/mem"),
    "memory for writing": lambda: write(f"/proc/{parent}/mem"),
    "environment": lambda: read(f"/proc/{parent}/environ"),
    "descriptors": lambda: os.listdir(f"/proc/{parent}/fd") and None,
}
scoped = {
    "signal": lambda: os.kill(int(victim), 0),
    "abstract socket": connect,
}
N = -1
calls = {
    "mount": lambda: call(165, 0, 0, 0, 0, 0), "umount2": lambda: call(166, 0, 0),
    "pivot_root": lambda: call(155, 0, 0), "unshare": lambda: call(272, 0),
    "setns": lambda: call(308, N, 0), "swapon": lambda: call(167, 0, 0), "swapoff": lambda: call(168, 0),
    "acct": lambda: call(163, 1), "quotactl": lambda: call(179, 0, 0, 0, 0),
    "name_to_handle_at": lambda: call(303, N, 0, 0, 0, 0), "open_by_handle_at": lambda: call(304, N, 0, 0),
    "ptrace": lambda: call(101, 3, parent, 0, 0),
    "process_vm_readv": lambda: call(310, parent, 0, 0, 0, 0, 0),
    "process_vm_writev": lambda: call(311, parent, 0, 0, 0, 0, 0),
    "kcmp": lambda: call(312, parent, parent, 99, 0, 0), "reboot": lambda: call(169, 0, 0, 0, 0),
    "kexec_load": lambda: call(246, 0, 99, 0, 0), "kexec_file_load": lambda: call(320, N, N, 0, 0, 99),
    "init_module": lambda: call(175, 0, 0, 0), "finit_module": lambda: call(313, N, 0, 0),
    "delete_module": lambda: call(176, 0, 0), "perf_event_open": lambda: call(298, 0, 0, 0, N, 0),
    "bpf": lambda: call(321, 999, 0, 0), "userfaultfd": lambda: call(323, 0xffff),
    "add_key": lambda: call(248, 0, 0, 0, 0, 0), "request_key": lambda: call(249, 0, 0, 0, 0),
    "keyctl": lambda: call(250, 9999, 0, 0, 0, 0), "syslog": lambda: call(103, 10, 0, 0),
    "iopl": lambda: call(172, 99), "ioperm": lambda: call(173, 0xfffffff, 1, 1),
    "settimeofday": lambda: call(164, 1, 0), "clock_settime": lambda: call(227, 99, 0),
    "sethostname": lambda: call(170, 0, 1), "setdomainname": lambda: call(171, 0, 1),
    "io_uring_setup": lambda: call(425, 0, 0), "open_tree": lambda: call(428, N, 0, 0),
    "move_mount": lambda: call(429, N, 0, N, 0, 0), "fsopen": lambda: call(430, 0, 0),
    "pidfd_getfd": lambda: call(438, N, 0, 0), "mount_setattr": lambda: call(442, N, 0, 0, 0, 0),
    "clone with a namespace": lambda: call(56, 0x00020200, 0, 0, 0, 0),
    "TIOCSTI": lambda: call(16, 1, 0x5412, 0),
}
unknown = {"clone3": lambda: call(435, 0, 0), "a new call": lambda: call(470, 0), "a newer call": lambda: call(999),
           "x32": lambda: call(0x40000000 | 39)}
done = {name: {k: answer(f) for k, f in group.items()}
        for name, group in (("files", files), ("scoped", scoped), ("calls", calls), ("unknown", unknown))}
status = dict(l.rstrip("\n").split(":\t", 1) for l in open("/proc/self/status") if ":\t" in l)
done["status"] = {k: status.get(k) for k in ("NoNewPrivs", "Seccomp", "CapEff")}
with open(result + ".new", "w") as f:
    json.dump(done, f)
os.rename(result + ".new", result)
'''


@pytest.fixture
def outside():
    """A directory that is not in the sandbox's reach unless it is named."""
    for place in ("/home", "/srv", "/mnt", "/media", "/var/lib", pathlib.Path.home()):
        if os.access(place, os.W_OK) and not str(place).startswith(("/tmp", "/var/tmp")):
            path = pathlib.Path(tempfile.mkdtemp(prefix="chasq-sandbox-", dir=place))
            break
    else:
        pytest.skip("all places that can be written to are in the sandbox's reach")
    path.chmod(0o755)
    if not os.access(place, os.X_OK) or (os.getuid() == 0 and not os.stat(place).st_mode & 0o001):
        shutil.rmtree(path)
        pytest.skip(f"other users cannot enter {place}")
    yield path
    shutil.rmtree(path, ignore_errors=True)


def as_nobody():
    """What starts a program as a plain user, when we are root."""
    if os.getuid() != 0:
        return []
    return ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


def give(path, user=65534):
    if os.getuid() == 0:
        for p in [path, *path.rglob("*")]:
            os.chown(p, user, user, follow_symlinks=False)


def status_of(pid):
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return dict(re.findall(r"^(\w+):\t(.*)$", text, re.M))


def sandbox_line(c):
    done = c.run("status", "-C", c.dir)
    assert done.returncode == 0, done.stderr
    text = re.search(r"^sandbox +(.*(?:\n {2,}.*)*)", done.stdout.decode(), re.M)
    assert text, done.stdout.decode()
    return " ".join(text[1].split())


def debug_build(c):
    """Built to be looked into: see SANDBOX_DEBUG."""
    return "memory closed" not in sandbox_line(c)


@pytest.fixture
def world(chasq, box, outside):
    """A function that starts a server as a plain user, or as root who gives up root, with the address
    probe@, whose program tells what it could do to `outside`."""

    def make(how="plain", **conf):
        if how == "user" and os.getuid() != 0:
            pytest.skip("needs root")
        for name, mode in (("secret", 0o666), ("victim", 0o666)):
            (outside / name).write_text("secret")
            (outside / name).chmod(mode)
        (outside / "program").write_text("#!/bin/sh\n")
        (outside / "program").chmod(0o755)
        outside.chmod(0o777)
        (box.path / "probe.py").write_text(PROBE)
        box.path.chmod(0o777)
        listener = socket.socket(socket.AF_UNIX)
        name = f"chasq-sandbox-{os.getpid()}"
        listener.bind("\0" + name)
        listener.listen()
        box.on_stop(listener.close)
        sleeper = box.process([*as_nobody(), "sleep", "600"], "sleeper")
        result = box.path / "result.json"
        aliases = f"probe: | {sys.executable} {box.path}/probe.py {outside} {result} {sleeper.pid} {name}\n" \
                  f"elsewhere: | {outside}/program\nscribe: | /bin/cp /etc/passwd {outside}/new\n"
        program = shutil.copy(harness.binary(), box.path / "program-under-test")
        c = chasq(start=False, program=program, conf={"user": "nobody" if how == "user" else None, **conf},
                  domains={"here.test": {"users": ["user"], "aliases": aliases}})
        give(c.dir)
        c.start(wrap=as_nobody() if how == "plain" else [])
        c.result = result
        return c

    return make


def probed(c):
    send(c.port, "a@client.test", ["probe@here.test"], MESSAGE)
    wait_for(c.result.exists, 30, lambda: "the probe's answer\n" + c.log()[-3000:])
    c.wait_queue_empty()
    answer = json.loads(c.result.read_text())
    c.result.unlink()
    return answer


# ---- what is refused ----------------------------------------------------------------------------

EPERM, EACCES, ENOSYS = 1, 13, 38


@pytest.mark.parametrize("how", ["plain", "user"])
def test_a_program_finds_the_doors_closed(world, outside, how):
    c = world(how)
    line = sandbox_line(c)
    assert re.search(r'started .*sandbox="?no core', c.log()), c.log()
    got = probed(c)
    status = status_of(c.pid)
    assert status["NoNewPrivs"] == "1" and got["status"]["NoNewPrivs"] == "1"
    assert "no_new_privs" in line.split("; not")[0], line
    assert int(status["CapEff"], 16) == 0
    limits = pathlib.Path(f"/proc/{c.pid}/limits").read_text()
    assert re.search(r"^Max core file size +0 +0 ", limits, re.M), limits
    tried = 0
    if "Landlock" in line.split("; not")[0]:
        own = {"memory", "memory for writing", "environment", "descriptors"} if debug_build(c) else set()
        let_in = {k: v for k, v in got["files"].items() if v not in (EACCES, EPERM, 18) and k not in own}
        assert let_in == {}
        tried += len(got["files"]) - len(own)
        assert sorted(p.name for p in outside.iterdir()) == ["program", "secret", "victim"]
        assert (outside / "secret").read_text() == "secret"
        if int(re.search(r"Landlock (\d+)", line)[1]) >= 6:
            assert got["scoped"] == {"signal": EPERM, "abstract socket": EPERM}
            tried += 2
    if "seccomp" in line.split("; not")[0]:
        assert status["Seccomp"] == "2" and got["status"]["Seccomp"] == "2"
        debug = {"ptrace"} if debug_build(c) else set()
        let_in = {k: v for k, v in got["calls"].items() if v not in (EPERM, None) and k not in debug}
        assert let_in == {}
        assert set(got["unknown"].values()) <= {ENOSYS, None}
        tried += sum(v is not None for group in ("calls", "unknown") for v in got[group].values()) - len(debug)
    print(f"{tried} attacks of a program, none got through; in force: {line}")


def test_without_it_the_same_attacks_get_through(world):
    """So that the test above does not praise what the system forbids anyway."""
    c = world("plain", sandbox=False)
    line = sandbox_line(c)
    assert "not: Landlock (sandbox: false), seccomp (sandbox: false)" in line, line
    got = probed(c)
    assert status_of(c.pid)["NoNewPrivs"] == "1"
    memory = ("memory", "memory for writing", "environment", "descriptors")
    assert {k: v for k, v in got["files"].items() if k not in memory and v not in (0, 2, 18)} == {}
    if not debug_build(c):
        assert set(got["files"][k] for k in memory) <= {EACCES, EPERM}
    assert got["scoped"] == {"signal": 0, "abstract socket": 0}
    assert ENOSYS not in (got["unknown"]["clone3"],)
    # As no root, and in containers, some are forbidden without us.
    assert sum(v not in (EPERM, None) for v in got["calls"].values()) > (15 if got["calls"]["bpf"] else 0)


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
@pytest.mark.parametrize("how", ["plain", "user"])
def test_a_delivery_agent_keeps_its_rights(world, outside, how):
    """It may be setuid and write where users live. Root can have the filter all the same."""
    c = world(how, mail_delivery_agent_bin="/bin/true", mail_delivery_agent_args=["x"])
    line = sandbox_line(c)
    assert "no_new_privs (mail_delivery_agent_bin), Landlock (mail_delivery_agent_bin)" in line.split("; not: ")[1], line
    status = status_of(c.pid)
    assert status["NoNewPrivs"] == "0"
    assert ("seccomp" in line.split("; not: ")[0]) == (status["Seccomp"] == "2") == (how == "user"), line
    got = probed(c)
    assert got["files"]["make"] == 0 and (outside / "new").exists()
    if how == "user":
        debug = {"ptrace"} if debug_build(c) else set()
        assert {k for k, v in got["calls"].items() if v not in (EPERM, None)} <= debug


# ---- what the operator is told ------------------------------------------------------------------


def test_a_program_out_of_reach_waits_and_the_log_says_why(world, outside):
    c = world("plain")
    if "Landlock" not in sandbox_line(c).split("; not")[0]:
        pytest.skip("no Landlock in this kernel")
    send(c.port, "a@client.test", ["elsewhere@here.test"], MESSAGE)
    text = c.wait_attempt().decode()
    assert "cannot run now" in text
    assert re.search(rf"path={outside}/program .*sandbox_readable", c.log()), c.log()
    assert re.search(r' pipe to=.*result="could not be started: .*\(see sandbox_readable\)"', c.log()), c.log()
    c.conf["sandbox_readable"] = str(outside)
    c.write_conf()
    done = c.run("reload", "-C", c.dir)
    assert b"refused sandbox_readable: the sandbox is entered once, at the start; restart" in done.stderr
    c.stop()
    c.start(wrap=as_nobody())
    assert c.run("flush", "-C", c.dir).returncode == 0
    c.wait_queue_empty()


def test_a_program_that_may_not_write_has_failed_and_the_log_names_the_key(world, outside):
    c = world("plain")
    if "Landlock" not in sandbox_line(c).split("; not")[0]:
        pytest.skip("no Landlock in this kernel")
    send(c.port, "a@client.test", ["scribe@here.test"], MESSAGE)
    wait_for(lambda: " pipe to=" in c.log() and "5.3.0 the program behind this address failed" in c.log(), 30,
             lambda: "the program's failure\n" + c.log()[-3000:])
    assert re.search(r"^error .*perhaps by the sandbox: see sandbox_writable", c.log(), re.M), c.log()
    assert not (outside / "new").exists()


def test_keys_that_would_need_more_are_refused(world, outside):
    c = world("plain")
    if "Landlock" not in sandbox_line(c).split("; not")[0]:
        pytest.skip("no Landlock in this kernel")
    (outside / "log").mkdir()
    (outside / "log").chmod(0o777)
    c.conf.update({"log_path": f"{outside}/log/chasq.log", "mail_log_path": f"{outside}/log/mail.log",
                   "maildir": f"{outside}/%to_user%", "tls_roots": f"{outside}/roots.pem", "sandbox": False})
    (outside / "acme").mkdir()
    (c.dir / "certs").mkdir(exist_ok=True)
    (c.dir / "certs/new").symlink_to(outside / "acme")
    c.write_conf()
    done = c.run("reload", "-C", c.dir)
    text = re.sub("(?m)^reload: ", "", (done.stdout + done.stderr).decode())
    for key in ("log_path", "mail_log_path", "maildir"):
        assert re.search(rf"^refused {key}: the sandbox does not let {outside}\S* be written; restart", text, re.M), text
    assert re.search(rf"^refused tls_roots: the sandbox does not let {outside}/roots.pem be read", text, re.M), text
    assert "refused sandbox: the sandbox is entered once" in text
    assert re.search(rf"^note: ./certs/new leads to {outside}/acme: the sandbox does not let it", text, re.M), text
    # And the mail goes where it went.
    send(c.port, "a@client.test", ["user@here.test"], MESSAGE)
    c.wait_messages("user")
    # All is well after a restart.
    c.conf["sandbox"] = True
    del c.conf["tls_roots"]
    c.write_conf()
    c.stop()
    c.start(wrap=as_nobody())
    send(c.port, "a@client.test", ["user@here.test"], MESSAGE)
    wait_for(lambda: list(outside.glob("user/new/*")), 10, "the message")
    assert "started" in (outside / "log/chasq.log").read_text()


# ---- what goes on -------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["plain", "user"])
def test_all_goes_on_far_from_tmp(world, outside, how, box):
    """Configuration, data, mail, logs and certificates where nothing but the plan lets them in."""
    if how == "user" and os.getuid() != 0:
        pytest.skip("needs root")
    conf, data, log, acme, shared = (outside / d for d in ("etc", "data", "log", "acme", "shared"))
    for d in (conf, log, acme, shared):
        d.mkdir()
    program = pathlib.Path(shutil.copy(harness.binary(), box.path / "program-under-test"))
    old = harness.Sandbox("far")
    shutil.rmtree(old.path)
    old.path = conf
    c = harness.Chasq(old, "chasq", program=program, conf={
        "user": "nobody" if how == "user" else None, "data_dir": str(data), "maildir": f"{outside}/mail/%to_user%",
        "log_path": f"{log}/chasq.log", "mail_log_path": f"{log}/mail.log", "sandbox_writable": str(shared)},
        domains={"here.test": {"users": ["user"], "aliases": f"tee: | /usr/bin/tee {shared}/copy\n"}})
    box.on_stop(old.stop)
    c.data, c.queue = data, data / "queue"
    (acme / "live").mkdir()
    tls = "WITH_TLS=1" in subprocess.run([program, "-V"], capture_output=True, text=True, check=True).stdout
    if tls:
        certs.make_cert(box.dir("pki"), ["chasq.test"]).install(acme, "live")
        (c.dir / "certs").mkdir(exist_ok=True)
        (c.dir / "certs/chasq.test").symlink_to(acme / "live")
    (c.dir / "hooks").mkdir()
    hook = c.dir / "hooks/post-data"
    hook.write_text("#!/bin/sh\ncat > /dev/null\necho 'X-Hook: ran'\n")
    hook.chmod(0o755)
    give(outside)
    c.start(wrap=as_nobody() if how == "plain" else [])

    def deliver():
        before = len(list(outside.glob("mail/user/new/*")))
        send(c.port, "a@client.test", ["user@here.test", "tee@here.test"], MESSAGE)
        wait_for(lambda: len(list(outside.glob("mail/user/new/*"))) > before, 15,
                 lambda: "a message\n" + (log / "chasq.log").read_text()[-3000:])
        wait_for(lambda: not list((data / "queue").glob("m:*")), 15, "an empty queue")
        assert b"X-Hook: ran" in sorted(outside.glob("mail/user/new/*"))[-1].read_bytes()
        assert b"body" in (shared / "copy").read_bytes()
        (shared / "copy").unlink()

    deliver()
    # Logs are rotated.
    for name in ("chasq.log", "mail.log"):
        (log / name).rename(log / (name + ".1"))
    c.process.kill(signal.SIGHUP)
    wait_for(lambda: (log / "chasq.log").exists() and (log / "mail.log").exists(), 10, "new logs")
    deliver()
    if tls:
        renewed = certs.make_cert(box.dir("renewed"), ["chasq.test"])
        renewed.install(acme, "live")
        give(acme)
        assert c.run("reload", "-C", c.dir).returncode == 0
        with smtplib.SMTP("127.0.0.1", c.port) as client:
            client.starttls(context=ssl._create_unverified_context())
            assert hashlib.sha256(client.sock.getpeercert(True)).hexdigest() == renewed.fingerprint()
    # The configuration is replaced as a whole, as OpenWrt's init script does it.
    shutil.copytree(c.dir, conf / "new", symlinks=True)
    users = conf / "new/domains/here.test/users"
    users.write_text(users.read_text() + 'users: { key: "second" value: { plain: { password: "x" } } }\n')
    give(conf / "new")
    c.dir.rename(conf / "old")
    (conf / "new").rename(c.dir)
    shutil.rmtree(conf / "old")
    done = c.run("reload", "-C", c.dir)
    assert done.returncode == 0, done.stdout + done.stderr
    send(c.port, "a@client.test", ["second@here.test"], MESSAGE)
    wait_for(lambda: list(outside.glob("mail/second/new/*")), 15, "mail for a new user")
    deliver()
    # To nobody there: a notification, through the same queue.
    send(c.port, "user@here.test", ["user@here.test"], MESSAGE)
    wait_for(lambda: len(list(outside.glob("mail/user/new/*"))) >= 4, 15, "the message")
    text = (log / "chasq.log").read_text()
    assert not re.search("Permission denied|sandbox does not|Operation not permitted", text), text
    c.stop()
