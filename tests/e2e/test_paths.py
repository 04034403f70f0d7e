"""Paths and shell: what strangers choose never becomes a path, an option or a command; and what another user
has planted in the directories is neither followed nor written to."""

import contextlib
import json
import os
import pathlib
import re
import socket
import stat
import sys

import pytest

import harness
from smtpclient import Client, Closed, send

TOUCH = "touch canary"

LOCAL_PARTS = [
    ".", "..", "../..", "../../../../out", "/etc/passwd", "a/../../../b", "//", "a/b", "new", "tmp", "~root", "~",
    "-oq/tmp/x", "-x", "--", "--help", "-", "-f", "@x", "a@b", "%to_user%", "%s%n%s%n", "%2e%2e%2f", "%from%@x", "a%b",
    f"`{TOUCH}`", f"$({TOUCH})", f"a;{TOUCH};", f"a|{TOUCH}", f"|{TOUCH}", f"a&{TOUCH}&", "a>canary", "<canary",
    "a b", "${ifs}", "$0", "$(id)", "*", "?", "[a-z]", "{a,b}", "!x", "#x", "a#b", "a'b", "''", 'a"b', '"',
    "\\", "a\\", "\\n", "\\..\\", "con", "a:b", ":include:", "a,b", "a=b", "=", "é", "x" * 64, "." * 64, "/" * 64, ".." + "/.." * 20,
]
# Not to be the name of a user.
NO_NAMES = ["\u202egro.live", "a\u2028b", "a\u3000b", "\ufeffx"]
# Not to be taken: too long, control characters, no UTF-8.
NOT_TAKEN = [b"x" * 65, b"x" * 300, b"../" * 100, b"a\x00b", b"\x00", b"a\x01b", b"\x1b[31m", b"a\x7fb", b"\xff\xfe", b"\xc0\xae"]
# These also end the session.
BARE = [b"a\nb", b"a\rb", b"a\nRCPT TO:<user@here.test>\nb", b"\r", b"\n"]
DOMAINS = ["../../out", "..", ".", "a/b", "/etc", "a..b", "%2e%2e", "a%2fb", f"$({TOUCH})", f"`{TOUCH}`", "a;b.test", "a|b.test",
           "a b.test", "a'b.test", "a\\b.test", "[../..]", "[ipv6:../..]", "[ipv6:::1%../..]", "x" * 300, "x" * 64 + ".test", "s:x",
           "-oq.test/", "a\ttest", "*.test", "\u2024\u2024/x.test", "\uff0e\uff0e\uff0fx.test", "xn--/..test"]

BLANKS = {0x1680, 0x2028, 0x2029, 0x202f, 0x205f, 0x3000, *range(0x80, 0xa1), *range(0x2000, 0x200b)}


def cleaned(text):
    """What arguments may hold of it, as chasq.conf(5) says."""
    out = ""
    for ch in text:
        if ord(ch) <= 32 or ord(ch) == 127 or ch in "/;\"'\\|*&$%()[]{}`!" or ord(ch) in BLANKS:
            continue
        if out or ch not in "-.":
            out += ch
    return out


def quoted(local):
    return '"' + re.sub(r'(["\\])', r"\\\1", local) + '"'


def sample(values):
    return values if harness.FULL else values[::2]


def tree(*roots):
    """All there is, what it is, and of files the content; without what the server itself keeps."""
    found = {}
    for root in roots:
        for p in sorted(root.rglob("*")):
            if {"data", "mail"} & set(p.relative_to(root).parts) or p.name.endswith((".log", ".shown")):
                continue
            s = p.lstat()
            what = os.readlink(p) if p.is_symlink() else p.read_bytes() if p.is_file() else b""
            found[str(p)] = (stat.S_IFMT(s.st_mode), stat.S_IMODE(s.st_mode), s.st_uid, what)
    return found


@contextlib.contextmanager
def nothing_else(box):
    """Nothing is made, changed or removed in the sandbox beside mail, queue and logs."""
    before = tree(box.path)
    yield
    after = tree(box.path)
    assert {k: v for k, v in after.items() if before.get(k) != v} == {}
    assert before.keys() - after.keys() == set()
    assert not [p for p in box.path.rglob("*") if p.name == "canary"]


def take(client, sender, rcpt):
    """One transaction; whether it was taken. Addresses as they go between the brackets."""
    utf8 = "" if (sender + rcpt).isascii() else " SMTPUTF8"
    taken = False
    if client.cmd(f"MAIL FROM:<{sender}>{utf8}").code == 250 and client.cmd(f"RCPT TO:<{rcpt}>").code == 250:
        client.cmd("DATA", 354)
        client.cmd("Subject: x\r\n\r\nx\r\n.", 250)
        taken = True
    client.cmd("RSET", 250)
    return taken


SHOW = f"""#!{sys.executable}
import json, os, sys
sys.stdin.buffer.read()
line = json.dumps([sys.argv[1:], dict(os.environ)]) + "\\n"
fd = os.open(@OUT@, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
os.write(fd, line.encode())
"""


def show(box, path):
    path.write_text(SHOW.replace("@OUT@", repr(str(box.path / "out.shown"))))
    path.chmod(0o755)
    return path


def shown(box, count):
    path = box.path / "out.shown"
    harness.wait_for(lambda: path.exists() and path.read_text().count("\n") >= count, 60, f"{count} runs")
    return [json.loads(line) for line in path.read_text().splitlines()]


ARGS = ["-f", "%from%", "x%from_user%:%from_domain%x", "--", "%to%", "%to_user%", "%to_domain%"]


def expected(sender, rcpt):
    user, domain = rcpt
    return ["-f", cleaned("@".join(sender)), f"x{cleaned(sender[0])}:{sender[1]}x", "--", cleaned(f"{user}@{domain}"),
            cleaned(user), domain]


# ---- addresses ----------------------------------------------------------------------------------


def test_delivery_program(box, chasq):
    """Every local part, as sender and as recipient: the arguments are as many as configured, and exactly
    what is left of the address without what means something to shells, paths and options."""
    program = show(box, box.path / "program")
    c = chasq(conf={"mail_delivery_agent_bin": str(program), "mail_delivery_agent_args": ARGS, "drop_characters": "",
                    "suffix_separators": ""}, domains={"here.test": {"users": ["user", *LOCAL_PARTS]}})
    want = []
    with nothing_else(box), Client(c.port, timeout=60) as client:
        client.hello()
        for local in sample(LOCAL_PARTS):
            assert take(client, f"{quoted(local)}@client.test", "user@here.test"), local
            want.append(expected((local, "client.test"), ("user", "here.test")))
            assert take(client, "a@client.test", f"{quoted(local)}@here.test"), local
            want.append(expected(("a", "client.test"), (local, "here.test")))
        for local in NO_NAMES:
            assert not take(client, "", f"{quoted(local)}@here.test")
            if take(client, f"{quoted(local)}@client.test", "user@here.test"):
                want.append(expected((local, "client.test"), ("user", "here.test")))
        got = shown(box, len(want))
        c.wait_queue_empty()
    assert sorted(a for a, _ in got) == sorted(want)
    for args, env in got:
        for value in (*args[1:3], *args[4:], env["SENDER"], env["RECIPIENT"]):
            assert not re.search(r"""[\x00-\x20\x7f/;"'\\|*&$%()\[\]{}`!]""", value), value
            assert not value.startswith(("-", "."))
        assert env["SENDER"] == args[1] and env["RECIPIENT"] == args[4]


def test_pipe(box, chasq):
    """The command is the operator's alone: nothing of sender or recipient gets into it."""
    program = show(box, box.path / "program")
    c = chasq(domains={"here.test": {"users": ["user"], "aliases": f"*: | {program} $(id) %to% a;b\n"}})
    wanted = sample(LOCAL_PARTS) + NO_NAMES
    with nothing_else(box), Client(c.port, timeout=60) as client:
        client.hello()
        taken = sum(take(client, f"{quoted(v)}@client.test", f"{quoted(v)}@here.test") for v in wanted)
        got = shown(box, taken)
        c.wait_queue_empty()
    assert taken >= len(wanted) - len(NO_NAMES)
    for args, env in got:
        assert args == ["$(id)", "%to%", "a;b"]
        assert not re.search(r"""[\x00-\x20\x7f/;"'\\|*&$%()\[\]{}`!]""", env["SENDER"] + env["RECIPIENT"])
        assert set(env) - {"LC_CTYPE"} == {"PATH", "LANG", "SENDER", "RECIPIENT"}


def test_maildir(box, chasq):
    """Each mailbox is a directory exactly two below the configured one, or the address is refused."""
    c = chasq(conf={"drop_characters": "", "suffix_separators": ""},
              domains={"here.test": {"users": ["user", *LOCAL_PARTS]}})
    with nothing_else(box), Client(c.port, timeout=60) as client:
        client.hello()
        for local in LOCAL_PARTS:
            assert take(client, "", f"{quoted(local)}@here.test"), local
            assert take(client, f"{quoted(local)}@client.test", "user@here.test"), local
        c.wait_queue_empty()
    places = {p.parent.parent for p in c.maildirs.rglob("*") if p.is_file()}
    assert all(p.parent == c.maildirs / "here.test" for p in places)
    assert len(c.messages("user")) == len(LOCAL_PARTS)
    names = {p.name for p in places} - {"user"}
    assert names <= set(LOCAL_PARTS) and len(names) > 30
    assert not [n for n in names if "/" in n or n.startswith(".")]


def test_lmtp(box, chasq):
    """The delivery server is told the address as it is, quoted, in one command."""
    from test_lmtp import Server
    s = Server(str(box.path / "lmtp"))
    box.on_stop(s.stop)
    plain = [v for v in sample(LOCAL_PARTS) if v.isascii() and ">" not in v and "<" not in v]
    c = chasq(conf={"lmtp_address": f"unix:{box.path}/lmtp", "drop_characters": "", "suffix_separators": ""},
              domains={"here.test": {"users": plain}})
    with nothing_else(box), Client(c.port, timeout=60) as client:
        client.hello()
        for local in plain:
            assert take(client, f"{quoted(local)}@client.test", f"{quoted(local)}@here.test"), local
        c.wait_queue_empty()
    said = [line for line in s.commands if line[:4].upper() in ("MAIL", "RCPT")]
    pairs = set()
    for line in said:
        m = re.fullmatch(r'(MAIL FROM|RCPT TO):<("(?:[^"\\]|\\.)*"|[^"@\s]+)@(client|here)\.test>.*', line)
        assert m, line
        local = re.sub(r"\\(.)", r"\1", m[2][1:-1]) if m[2].startswith('"') else m[2]
        pairs.add((m[1], local))
    assert pairs == {(v, local) for v in ("MAIL FROM", "RCPT TO") for local in plain}


def test_hooks(box, chasq):
    """A hook has one argument at most, and an environment of the promised names, whose values hold no
    control character; a script that quotes them runs nothing."""
    c = chasq(conf={"mail_delivery_agent_bin": "/bin/true", "drop_characters": "", "suffix_separators": ""},
              domains={"here.test": {"users": ["user", *LOCAL_PARTS]}})
    (c.dir / "hooks").mkdir()
    out = box.path / "out.shown"
    for name in ("alias-resolve", "rcpt", "post-data"):
        hook = c.dir / "hooks" / name
        hook.write_text("#!/bin/sh\nx=\"$1 $MAIL_FROM $RCPT_TO $EHLO_DOMAIN $EHLO_DOMAIN_RAW\"\n"
                        f"{{ printf '%s\\0' {name} $# \"$1\"; env -0; printf 'END\\0'; }} >>{out}\n")
        hook.chmod(0o755)
    values = LOCAL_PARTS if harness.FULL else LOCAL_PARTS[::3]
    with nothing_else(box), Client(c.port, timeout=60) as client:
        client.cmd(f"EHLO $({TOUCH}).`{TOUCH}`/../-x;é".encode())
        for local in values:
            assert take(client, f"{quoted(local)}@client.test", f"{quoted(local)}@here.test"), local
        c.wait_queue_empty()
    runs = [r.split("\0") for r in out.read_text().split("END\0")[:-1]]
    by_name = {n: [r for r in runs if r[0] == n] for n in ("alias-resolve", "rcpt", "post-data")}
    assert len(by_name["rcpt"]) == len(by_name["post-data"]) == len(values) <= len(by_name["alias-resolve"])
    for name, count, arg, *env in runs:
        env = dict(v.split("=", 1) for v in env if v)
        assert (count, bool(arg)) == (("0", False) if name == "post-data" else ("1", True))
        assert arg == "" or arg.endswith("@here.test")
        assert not re.search(r"[\x00-\x1f\x7f]", arg + "".join(env.values()))
        fixed = {"USER", "PWD", "SHELL", "PATH"}
        told = {"REMOTE_ADDR", "EHLO_DOMAIN", "EHLO_DOMAIN_RAW", "MAIL_FROM", "RCPT_TO", "AUTH_AS", "ON_TLS",
                "FROM_LOCAL_DOMAIN", "SPF_PASS"}
        # What a shell sets itself.
        assert set(env) - {"OLDPWD", "SHLVL", "_"} == (fixed if name == "alias-resolve" else fixed | told)
        assert re.fullmatch(r"[A-Za-z0-9.\[\]:-]*", env.get("EHLO_DOMAIN", ""))


@pytest.mark.parametrize("verb", ["MAIL FROM:", "RCPT TO:"])
def test_what_is_no_address(box, chasq, verb):
    """Too long, control characters, NUL, broken UTF-8, hostile domains: refused; bare CR and LF: the end."""
    c = chasq(conf={"trusted_network": "127.0.0.0/8"})
    addresses = [b'"%s"@here.test' % v for v in NOT_TAKEN] + [b"%s@here.test" % v for v in NOT_TAKEN]
    addresses += [b"user@" + d.encode() for d in DOMAINS]
    with nothing_else(box):
        for a in addresses:
            with Client(c.port, timeout=30) as client, contextlib.suppress(Closed):
                client.hello()
                if verb == "RCPT TO:":
                    client.cmd("MAIL FROM:<> SMTPUTF8", 250)
                reply = client.cmd(verb.encode() + b"<" + a + b">" + (b" SMTPUTF8" if verb[0] == "M" else b""))
                assert reply.code in (500, 501, 550, 553, 554), (a, reply)
        for v in BARE:
            with Client(c.port) as client:
                client.hello()
                if verb == "RCPT TO:":
                    client.cmd("MAIL FROM:<>", 250)
                with contextlib.suppress(Closed):
                    reply = client.cmd(b'%s<"%s"@here.test>' % (verb.encode(), v))
                    assert reply.code >= 500, reply
                    assert client.at_end()
    assert not c.queued() and not c.maildirs.exists()
    known = c.data / "domaininfo"
    assert not known.exists() or not list(known.iterdir())


# ---- the tools ----------------------------------------------------------------------------------


def test_sendmail(box, chasq):
    """-f, arguments and -t: a recipient that looks like an option is none behind --, and nothing is run."""
    program = show(box, box.path / "program")
    c = chasq(conf={"mail_delivery_agent_bin": str(program), "mail_delivery_agent_args": ARGS, "drop_characters": "",
                    "suffix_separators": ""}, domains={"here.test": {"users": ["user", *LOCAL_PARTS]}})
    want = []
    values = [v for v in (LOCAL_PARTS if harness.FULL else LOCAL_PARTS[::5]) if v.isascii()]
    with nothing_else(box):
        for local in values:
            a = quoted(local) + "@here.test"
            # The name is another's: who is no root may not use it.
            assert c.sendmail("-f", quoted(local) + "@client.test", "--", "user@here.test", input=b"Subject: x\n\nx\n"
                              ).returncode == 0, local
            want.append(expected((local, "client.test"), ("user", "here.test")))
            for args, head in ((["-f", "a@client.test", "--", a], ""), (["-f", "a@client.test", "-t"], f"To: {a}\n")):
                r = c.sendmail(*args, input=(head + "Subject: x\n\nx\n").encode())
                assert r.returncode == 0, (args, r)
                want.append(expected(("a", "client.test"), (local, "here.test")))
        got = shown(box, len(want))
        c.wait_queue_empty()
        for bad in ("-oQ/tmp/x", "a@" + "../" * 30, "\n", "a\nb@here.test", "`" + TOUCH + "`", "|" + TOUCH, "/etc/passwd",
                    ":include:/etc/passwd", "../../x@../../y"):
            c.sendmail("--", bad, input=b"Subject: x\n\nx\n")
            c.sendmail("-f", bad, "--", bad, input=b"Subject: x\n\nx\n")
            c.sendmail("-t", input=b"To: " + bad.encode() + b"\nBcc: " + bad.encode() + b"\n\nx\n")
    assert sorted(a for a, _ in got) == sorted(want)


def test_commands(box, chasq):
    """IDs, domains and users on the operator's command line and on the control socket are no paths."""
    # Without the journal, whose segments are made in the background, all of the state is in files that stay.
    c = chasq(journal=False, conf={"mail_delivery_agent_bin": "/not/there"})
    (c.data / "m:1dW8Ql8yaIk").write_text("not in the queue\n")
    (c.data / "s:x.test").write_text("not in domaininfo\n")
    send(c.port, "a@client.test", ["user@here.test"], b"Subject: x\r\n\r\nx\r\n")
    c.wait_attempt()
    hostile = ["../m:1dW8Ql8yaIk", "../1dW8Ql8yaIk", "..", ".", "/etc/passwd", "../../../../etc/passwd", "m:", "", "*", "-",
               f"`{TOUCH}`", f"$({TOUCH})", "a\nremove b", "x" * 5000, "../s:x.test", "../x.test", "%2e%2e"]

    def state():
        return sorted((str(p), p.read_bytes()) for p in c.data.rglob("*") if p.is_file())

    before = state()
    with nothing_else(box):
        for i, v in enumerate(hostile):
            runs = [[*command, "-C", c.dir, "--", v] for command in (
                ["show"], ["show", "--raw"], ["remove"], ["remove", "--bounce"], ["release"], ["resolve"], ["trace"],
                ["domaininfo", "show"], ["domaininfo", "forget"], ["user", "list"])]
            # A user's name may be anything, not so his domain.
            runs += [[*command, "-C", c.dir, "--", f"{v}@{at}"] for at in ("../../out", "..")
                     for command in (["passwd"], ["user", "add"], ["user", "remove"])]
            for args in runs if harness.FULL else runs[i % 4::4]:
                c.run(*args, input=b"secret secret\nsecret secret\n")
            for line in (f"queue remove {v}", f"remove {v}", f"show {v}", f"domaininfo forget {v}"):
                with socket.socket(socket.AF_UNIX) as s, contextlib.suppress(OSError):
                    s.connect(str(c.data / "control"))
                    s.sendall(line.encode() + b"\n")
                    s.shutdown(socket.SHUT_WR)
                    s.recv(4096)
    assert state() == before


# ---- planted files ------------------------------------------------------------------------------

MALLORY = 61234
NOBODY = 65534


def needs_root():
    if os.getuid() != 0:
        pytest.skip("files of other users: needs root")


class Victims:
    """Files and a directory that the server could write to, and must not."""

    def __init__(self, box, owner):
        self.path = box.dir("victims")
        self.path.chmod(0o755)
        self.owner = owner
        self.count = 0
        self.full = self.path / "full"
        self.full.mkdir()
        for i in range(150):
            (self.full / f"m:{i}").write_text("keep\n")
            os.utime(self.full / f"m:{i}", (1000, 1000))
            os.chown(self.full / f"m:{i}", owner, owner)
        os.chown(self.full, owner, owner)
        os.chown(self.path, owner, owner)

    def new(self, content="keep\n"):
        self.count += 1
        p = self.path / f"victim{self.count}"
        p.write_text(content)
        os.chown(p, self.owner, self.owner)
        p.chmod(0o640)
        return p

    def state(self):
        found = {}
        for p in self.path.rglob("*"):
            s = p.lstat()
            found[str(p)] = (s.st_mode, s.st_uid, s.st_gid, b"" if p.is_dir() else p.read_bytes())
        return found


def link(path, target, owner=MALLORY):
    path.symlink_to(target)
    os.chown(path, owner, owner, follow_symlinks=False)


def strange(directory, names, victims):
    """Under these names in turn: a link to a victim, a hard link, a FIFO, a socket, a link to /dev/zero, one to
    nowhere, a directory."""
    for i, name in enumerate(names):
        path = directory / name
        if i % 7 == 1:
            os.link(victims.new(), path)
        elif i % 7 == 2:
            os.mkfifo(path)
        elif i % 7 == 3:
            with socket.socket(socket.AF_UNIX) as s:
                os.chdir(directory)
                s.bind(name)
        elif i % 7 == 6:
            path.mkdir()
        else:
            link(path, {0: victims.new(), 4: "/dev/zero", 5: victims.path / "made"}[i % 7])
        if i % 7 != 1:
            os.chown(path, MALLORY, MALLORY, follow_symlinks=False)


@pytest.fixture
def home():
    here = os.getcwd()
    yield
    os.chdir(here)


@pytest.mark.parametrize("way", ["root", "root that becomes a user", "user"])
def test_planted_in_the_data_directory(box, chasq, way, home):
    """Links, hard links, FIFOs, sockets in queue, damaged, held, domaininfo, sts-cache and at the control
    socket: the server starts, delivers, holds, learns, and no file elsewhere changes in content, owner or mode."""
    needs_root()
    owner = 0 if way == "root" else NOBODY
    v = Victims(box, owner)
    c = chasq(start=False, conf={"user": "nobody" if "becomes" in way else None, "control_mode": "0777"})
    c.maildirs.mkdir()
    os.chown(c.maildirs, owner, owner)
    for name in ("", "queue", "domaininfo", "sts-cache"):
        (c.data / name).mkdir()
        os.chown(c.data / name, owner, owner)
        (c.data / name).chmod(0o777)
    strange(c.data / "queue", [f"m:1dW8Ql8ya{i}{j}" for i in "AB" for j in "abcdefg"], v)
    link(c.data / "queue/.temp", v.new())
    link(c.data / "queue/damaged", v.full)
    strange(c.data / "domaininfo", [f"s:d{i}.test" for i in range(7)], v)
    link(c.data / "domaininfo/.s:client.test.new", v.new())
    link(c.data / "domaininfo/long", v.new())
    strange(c.data / "sts-cache", [f"p:d{i}.test" for i in range(7)], v)
    link(c.data / "held", v.new('held: "x.test"\n'))
    link(c.data / ".held.new", v.new())
    link(c.data / ".srs-key.new", v.new())
    link(c.data / "control", v.new())
    before = v.state()
    wrap = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"] if way == "user" else []
    c.start(wrap=wrap)
    send(c.port, "a@client.test", ["user@here.test"], b"Subject: x\r\n\r\nx\r\n")
    c.wait_messages("user")
    harness.wait_for(lambda: "queue scanned" in c.log(), 20, c.log)
    assert c.run("hold", "far.test", "-C", c.dir).returncode == 0
    assert not (c.data / "held").is_symlink() and "far.test" in (c.data / "held").read_text()
    assert c.run("domaininfo", "list", "-C", c.dir).returncode == 0
    assert v.state() == before
    # In place of the socket, while it runs; a reload sets mode and owner again.
    (c.data / "control").rename(c.data / "control.away")
    link(c.data / "control", v.new())
    after_link = v.state()
    c.conf["control_mode"] = "0770"
    c.write_conf()
    os.kill(c.pid, 1)
    harness.wait_for(lambda: "control socket replaced" in c.log(), 20, c.log)
    assert v.state() == after_link
    send(c.port, "a@client.test", ["user@here.test"], b"Subject: y\r\n\r\ny\r\n")
    c.wait_messages("user", 2)
    after_link = {k: s for k, s in v.state().items() if k in before}
    assert after_link == before
    assert not (v.path / "made").exists()


@pytest.mark.parametrize("what", ["link", "hard link", "fifo", "open to all"])
def test_planted_key(box, chasq, what):
    """A key of SRS that somebody else may know, or that is none, is not used, and nothing is written
    through it: the server says so and does not start."""
    needs_root()
    v = Victims(box, 0)
    c = chasq(start=False)
    c.data.mkdir()
    path = c.data / "srs-key"
    if what == "link":
        link(path, v.new())
    elif what == "hard link":
        os.link(v.new(), path)
    elif what == "fifo":
        os.mkfifo(path)
    else:
        path.write_text("x" * 64)
        path.chmod(0o644)
    before = v.state()
    c.start(wait=False)
    assert c.process.wait(20) != 0
    assert "srs-key" in c.log()
    c.process = None
    assert v.state() == before


@pytest.mark.parametrize("way", ["root", "root that becomes a user"])
def test_planted_in_maildirs(box, chasq, way):
    """A Maildir belongs to the server's user or to its reader, who may have made links of it: they are not
    followed, mail for him waits, and all others get theirs. A link that root or the server's user has made
    is the operator's, and good."""
    needs_root()
    owner = 0 if way == "root" else NOBODY
    v = Victims(box, owner)
    users = ["base", "tmp", "new", "cur", "both", "file", "fifo", "nowhere", "roots", "ours", "honest"]
    c = chasq(start=False, conf={"user": "nobody" if owner else None}, domains={"here.test": {"users": users}})
    if owner:  # one way as it is, the other with a slash at the end, which names what a link leads to
        c.conf["maildir"] += "/"
        c.write_conf()
    c.maildirs.mkdir()
    place = c.maildirs / "here.test"
    place.mkdir()
    for p in (c.maildirs, place):
        os.chown(p, owner, owner)
    for name in ("tmp", "new", "cur", "both"):
        (place / name).mkdir()
        for sub in ("tmp", "new") if name == "both" else (name,):
            link(place / name / sub, v.full)
    for p in place.iterdir():
        os.chown(p, MALLORY, MALLORY)
        p.chmod(0o777)
    link(place / "base", v.full)
    link(place / "nowhere", v.path / "made")
    (place / "file").write_text("in the way\n")
    os.mkfifo(place / "fifo")
    for name, who in (("roots", 0), ("ours", owner)):
        real = box.path / f"real-{name}"
        real.mkdir()
        os.chown(real, owner, owner)
        link(place / name, real, who)
    before = v.state()
    c.start()
    send(c.port, "a@client.test", [f"{u}@here.test" for u in users], b"Subject: x\r\n\r\nx\r\n")
    good = {"cur", "roots", "ours", "honest"}

    def verdicts():
        return dict(re.findall(r"^\S+ (?:sent|deferred|failed) .* to=(\w+)@here.test .* status=\"(\d+)", c.log(), re.M))

    harness.wait_for(lambda: len(verdicts()) == len(users), 30, lambda: f"{verdicts()}\n" + c.log()[-3000:])
    assert verdicts() == {u: "250" if u in good else "451" for u in users}
    assert v.state() == before
    for u in good:
        assert len(list((place / u / "new").iterdir())) == 1
    assert not (v.path / "made").exists()
    assert pathlib.Path(place / "file").read_text() == "in the way\n"
