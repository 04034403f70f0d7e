"""Local delivery: Maildir, real procmail and maildrop, pipes, and what goes wrong with programs."""

import os
import shlex
import signal
import stat
import time

import pytest

import harness
import peers
from contents import HARD
from smtpclient import Client, send

LF = HARD["dots"].replace(b"\r\n", b"\n")


def script(box, name, text):
    path = box.path / name
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return path


def mda_conf(program, *args):
    return {"mail_delivery_agent_bin": str(program), "mail_delivery_agent_args": list(args)}


# ---- Maildir ------------------------------------------------------------------------------------


def test_maildir_contents(chasq):
    c = chasq()
    with Client(c.port, timeout=30) as client:
        client.hello()
        for content in HARD.values():
            client.message("a@client.test", ["user@here.test"], content)
    c.wait_messages("user", len(HARD))
    got = sorted(harness.drop_trace(m) for m in c.messages("user"))
    assert got == sorted(harness.drop_trace(m if m.endswith(b"\r\n") else m + b"\r\n")
                         for m in HARD.values())
    for m in c.messages("user"):
        assert b"\r\n" not in harness.split_message(m)[0]
    assert not list((c.maildir("user") / "tmp").iterdir())
    assert (c.maildir("user") / "cur").is_dir()


def test_maildir_header(chasq):
    c = chasq()
    send(c.port, "a@client.test", ["User+x@Here.test"], HARD["plain"])
    lines = c.wait_messages("user")[0].decode().split("\n")
    assert lines[0] == "Return-Path: <a@client.test>"
    assert lines[1].lower().startswith("delivered-to: user")
    assert lines[2].startswith("Received: from client.test")


def test_maildir_is_private(chasq):
    c = chasq()
    send(c.port, "a@client.test", ["user@here.test"], HARD["plain"])
    c.wait_messages("user")
    path = next((c.maildir("user") / "new").iterdir())
    assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
    assert stat.S_IMODE(c.maildir("user").stat().st_mode) & 0o077 == 0


def test_line_ends_as_chasquid(chasq):
    c = chasq(conf={"local_line_ends": harness.Raw("CRLF")})
    send(c.port, "a@client.test", ["user@here.test"], HARD["plain"])
    assert c.wait_messages("user")[0].endswith(b"\r\n\r\nhello\r\n")


def test_hostile_local_parts_stay_inside(box, chasq):
    """A users file may name anything; a file name it becomes must not leave its directory."""
    users = ["..", ".", "../out", "a/../../out", "a\\b", "-x", "sp ace", "new", "a'b", "über"]
    c = chasq(domains={"here.test": {"users": users}}, conf={"drop_characters": ""})
    with Client(c.port) as client:
        client.hello()
        taken = 0
        for user in users:
            quoted = '"' + user.replace("\\", "\\\\") + '"'
            client.cmd("MAIL FROM:<>", 250)
            if client.cmd(f"RCPT TO:<{quoted}@here.test>").code == 250:
                client.cmd("DATA", 354)
                client.cmd("x\r\n.", 250)
                taken += 1
            client.cmd("RSET", 250)
    assert taken > 5
    c.wait_queue_empty()
    inside = [p for p in c.maildirs.rglob("*") if p.is_file()]
    everywhere = [p for p in box.path.rglob("*") if p.is_file() and p.parent.name == "new"]
    assert sorted(inside) == sorted(everywhere)
    assert not (box.path / "out").exists() and not (c.dir / "out").exists()
    for p in inside:
        assert len(p.relative_to(c.maildirs).parts) == 4, p


def test_full_mailbox_directory_is_transient(chasq):
    """A Maildir that cannot be written: the message waits."""
    c = chasq()
    c.maildir("user").parent.mkdir(parents=True)
    c.maildir("user").write_text("a file in the way\n")
    send(c.port, "a@client.test", ["user@here.test"], HARD["plain"])
    c.wait_attempt()
    c.maildir("user").unlink()
    c.sendmail("-q")
    c.wait_messages("user", seconds=20)
    c.wait_queue_empty()


# ---- programs -----------------------------------------------------------------------------------


def test_procmail(box, chasq):
    home = box.dir("home")
    rc = home / "procmailrc"
    rc.write_text(f"MAILDIR={home}\nDEFAULT={home}/box/\nLOGFILE={home}/log\n"
                  ":0\n* ^Subject: test\n%s/test/\n" % home)
    c = chasq(env=peers.library_env(), conf=mda_conf(
        peers.program("usr/bin/procmail"), "-a", "%to_user%", "-f", "%from%", "-m", str(rc)))
    send(c.port, "a@client.test", ["user@here.test"], HARD["dots"])
    c.wait_queue_empty()
    got = [p.read_bytes() for p in (home / "test/new").iterdir()]
    assert len(got) == 1 and got[0].endswith(LF.split(b"\n\n", 1)[1])


def test_maildrop(box, chasq):
    home = box.dir("home")
    (home / "filter").write_text(f'if (/^Subject: test/)\n{{\n  to "{home}/test"\n}}\nto "{home}/box"\n')
    (home / "filter").chmod(0o600)
    for d in ("tmp", "new", "cur"):
        (home / "test" / d).mkdir(parents=True)
    run = script(box, "maildrop", f"export HOME={home} LD_LIBRARY_PATH="
                 f"{peers.library_env()['LD_LIBRARY_PATH']}\n"
                 f"exec {peers.program('usr/bin/maildrop')} -f \"$1\" {home}/filter\n")
    c = chasq(conf=mda_conf(run, "%from%"))
    send(c.port, "a@client.test", ["user@here.test"], HARD["dots"])
    c.wait_queue_empty()
    got = [p.read_bytes() for p in (home / "test/new").iterdir()]
    assert len(got) == 1 and got[0].endswith(LF.split(b"\n\n", 1)[1])


def test_mda_arguments(box, chasq):
    """Each argument is one argument, its replacements done anywhere in it, hostile parts made
    harmless."""
    show = script(box, "show", f'for a; do printf "%s\\n" "$a"; done >>{box.path}/args; cat >/dev/null\n')
    c = chasq(conf=mda_conf(show, "-f", "%from%", "x%from_user%:%from_domain%x", "%to%",
                            "%to_user%@%to_domain%", "two words", "100%", "%unknown%"))
    send(c.port, '"a;b $(id)|`x`"@client.test', ["user+x@here.test"], HARD["plain"])
    c.wait_queue_empty()
    args = (box.path / "args").read_text().splitlines()
    assert len(args) == 8
    assert args[0] == "-f" and args[5:] == ["two words", "100%", "%unknown%"]
    assert args[1].endswith("@client.test") and args[2].endswith(":client.testx")
    assert not set("".join(args[1:3])) & set(";$()|` "), args
    assert args[3].startswith("user") and args[3].endswith("@here.test")


def test_mda_temporary_failure(box, chasq):
    fail = script(box, "fail", "cat >/dev/null; echo come back later; exit 75\n")
    c = chasq(conf=mda_conf(fail), domains={"here.test": {"users": ["user", "sender"]}})
    send(c.port, "sender@here.test", ["user@here.test"], HARD["plain"])
    text = c.wait_attempt()
    assert b"PENDING" in text
    assert len(c.queued()) == 1


def test_mda_permanent_failure(box, chasq):
    """Exit 1: a notification to the sender, by the same program, which then takes it."""
    fail = script(box, "fail", f'if [ "$1" = user ]; then cat >/dev/null; echo secret; exit 1; fi\n'
                  f"cat >{box.path}/dsn\n")
    c = chasq(conf=mda_conf(fail, "%to_user%"), domains={"here.test": {"users": ["user", "sender"]}})
    send(c.port, "sender@here.test", ["user@here.test"], HARD["plain"])
    c.wait_queue_empty()
    dsn = (box.path / "dsn").read_text()
    assert "Action: failed" in dsn and "Final-Recipient: rfc822; user@here.test" in dsn


def test_mda_missing(box, chasq):
    c = chasq(conf=mda_conf(box.path / "not-there"))
    send(c.port, "a@client.test", ["user@here.test"], HARD["plain"])
    assert b"PENDING" in c.wait_attempt()
    script(box, "not-there", f"cat >{box.path}/got\n")
    c.sendmail("-q")
    c.wait_queue_empty()
    assert (box.path / "got").read_bytes().endswith(b"\nhello\n")


def test_mda_killed(box, chasq):
    """A program that dies of itself has failed."""
    die = script(box, "die", "kill -ABRT $$\n")
    c = chasq(conf=mda_conf(die), domains={"here.test": {"users": ["user"]}})
    send(c.port, "", ["user@here.test"], HARD["plain"])
    harness.wait_for(lambda: "killed by signal 6" in c.log(), 20, c.log)
    c.wait_queue_empty()  # of the null sender: nobody is to be told
    assert c.process.running() and not c.messages("user")


@pytest.mark.parametrize("kind", ["mda", "pipe"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_ended_from_outside(box, chasq, kind, number):
    """A shutdown ends all processes, and the kernel some when memory is short. Nobody gets a notification for it: the
    message waits."""
    slow = script(box, "slow", f"test -e {box.path}/pid || {{ echo $$ >{box.path}/begun; "
                  f"mv {box.path}/begun {box.path}/pid; sleep 60; }}\ncat >{box.path}/got\n")
    c = chasq(conf=mda_conf(slow) if kind == "mda" else {},
              domains={"here.test": {"users": ["user"], "aliases": f"prog: | {slow}\n"}})
    send(c.port, "user@here.test", ["user@here.test" if kind == "mda" else "prog@here.test"], HARD["plain"])
    harness.wait_for((box.path / "pid").exists, 20)
    group = int((box.path / "pid").read_text())
    if number == signal.SIGTERM:
        c.process.kill(number)
    os.killpg(group, number)
    if number == signal.SIGTERM:
        c.process.wait(30)
        c.start()
    assert b"PENDING" in c.wait_attempt()
    c.sendmail("-q")
    c.wait_queue_empty()
    assert (box.path / "got").read_bytes().endswith(b"\nhello\n")
    assert not c.messages("user")


def test_mda_that_does_not_read(box, chasq):
    """Exit 0 without reading its input: that is its business; no SIGPIPE, no stall."""
    c = chasq(conf=mda_conf("/bin/true"))
    send(c.port, "a@client.test", ["user@here.test"], HARD["many-lines"])
    c.wait_queue_empty()
    assert c.process.running()


def test_mda_grandchild_holds_pipes(box, chasq):
    """A background process that keeps the pipes open does not hang the delivery."""
    hold = script(box, "hold", f"cat >{box.path}/got; sleep 15 & exit 0\n")
    c = chasq(conf=mda_conf(hold))
    start = time.monotonic()
    send(c.port, "a@client.test", ["user@here.test"], HARD["plain"])
    c.wait_queue_empty(12)
    assert time.monotonic() - start < 12


def test_mda_babble_is_bounded(box, chasq):
    """A program that prints without end gains nothing."""
    babble = script(box, "babble", "cat >/dev/null; yes | head -c 20000000; exit 75\n")
    c = chasq(conf=mda_conf(babble))
    send(c.port, "a@client.test", ["user@here.test"], HARD["plain"])
    assert len(c.wait_attempt(60)) < 20000


def test_mda_hangs(box, chasq, short_build):
    """A program that never ends is killed with its children, and the message kept."""
    hang = script(box, "hang", f"echo $$ >{box.path}/pid; sleep 1000 & sleep 1000\n")
    c = chasq(program=short_build, conf=mda_conf(hang))
    send(c.port, "a@client.test", ["user@here.test"], HARD["plain"])
    assert b"PENDING" in c.wait_attempt(40)
    group = int((box.path / "pid").read_text())
    harness.wait_for(lambda: not group_alive(group), 10, "the program's group to be gone")


def group_alive(group):
    try:
        os.killpg(group, 0)
        return True
    except ProcessLookupError:
        return False


# ---- pipes and aliases --------------------------------------------------------------------------


def test_pipe(box, chasq):
    take = script(box, "take", f'echo "$@" >{box.path}/args; cat >{box.path}/got\n')
    c = chasq(domains={"here.test": {"users": ["user"],
                                     "aliases": f"prog: | {take} one two\nboth: user, prog\n"}})
    send(c.port, "a@client.test", ["both@here.test"], HARD["dots"])
    c.wait_queue_empty()
    assert (box.path / "args").read_text() == "one two\n"
    assert (box.path / "got").read_bytes().endswith(LF.split(b"\n\n", 1)[1])
    assert len(c.messages("user")) == 1


@pytest.mark.parametrize("text", ["exit 1", "exit 75", "kill -ABRT $$"])
def test_pipe_failure_is_permanent(box, chasq, text):
    """...and neither the command line nor its output reach the sender."""
    fail = script(box, "failing-program", f"cat >/dev/null; echo output-secret; {text}\n")
    c = chasq(domains={"here.test": {"users": ["sender"],
                                     "aliases": f"prog: | {fail} argument-secret\n"}})
    send(c.port, "sender@here.test", ["prog@here.test"], HARD["plain"])
    dsn = c.wait_messages("sender")[0].decode()
    c.wait_queue_empty()
    assert "prog@here.test" in dsn
    for hidden in ("output-secret", "argument-secret", "failing-program", str(box.path)):
        assert hidden not in dsn, dsn


def test_pipe_missing_is_permanent(box, chasq):
    c = chasq(domains={"here.test": {"users": ["sender"],
                                     "aliases": f"prog: | {box.path}/not-there\n"}})
    send(c.port, "sender@here.test", ["prog@here.test"], HARD["plain"])
    c.wait_messages("sender")
    c.wait_queue_empty()


def test_pipe_gets_no_shell(box, chasq):
    take = script(box, "take", f'printf "%s\\n" "$@" >{box.path}/args; cat >/dev/null\n')
    c = chasq(domains={"here.test": {"aliases": f"prog: | {take} a;b $(id) >x\n"}})
    send(c.port, "a@client.test", ["prog@here.test"], HARD["plain"])
    c.wait_queue_empty()
    assert (box.path / "args").read_text().splitlines() == ["a;b", "$(id)", ">x"]


def test_alias_chain_and_loop(chasq):
    c = chasq(domains={"here.test": {"users": ["user", "other"], "aliases":
                                     "# a comment\none: two\ntwo: user, other\n"
                                     "round: about\nabout: round\n"}})
    with Client(c.port) as client:
        client.hello()
        client.message("a@client.test", ["one@here.test"], HARD["plain"])
        client.cmd("MAIL FROM:<a@client.test>", 250)
        client.cmd("RCPT TO:<round@here.test>", (550, 554))
    for user in ("user", "other"):
        assert len(c.wait_messages(user)) == 1


def test_alias_to_outside(chasq, sink, dnsmasq):
    """An alias may lead outside though the sender may not relay."""
    s = sink(address="127.0.0.2")
    dns = dnsmasq(mx={"far.test": [(10, "mx.far.test")]}, hosts={"mx.far.test": ["127.0.0.2"]})
    c = chasq(conf={"dns_servers": dns.server, "remote_smtp_port": s.port},
              domains={"here.test": {"aliases": "out: someone@far.test, else@far.test\n"}})
    send(c.port, "a@client.test", ["out@here.test"], HARD["dots"])
    harness.wait_for(lambda: s.messages, 15)
    c.wait_queue_empty()
    assert s.messages[0].recipients == ["someone@far.test", "else@far.test"]
    assert harness.drop_trace(s.messages[0].data) == harness.drop_trace(HARD["dots"])


def test_suffix_and_dropped_characters(chasq):
    c = chasq(conf={"suffix_separators": "+-", "drop_characters": "._"},
              domains={"here.test": {"users": ["user"]}})
    with Client(c.port) as client:
        client.hello()
        for name in ("user", "u.s.e.r", "us_er", "user+a", "user-b", "u.ser+c-d", "USER"):
            client.message("a@client.test", [f"{name}@here.test"], HARD["plain"])
    assert len(c.wait_messages("user", 7)) == 7


def test_quoting_of_paths_in_configuration(box, chasq):
    """A Maildir path with blanks is a path."""
    c = chasq(conf={"maildir": f"{box.path}/my mail/%to_user%"})
    send(c.port, "a@client.test", ["user@here.test"], HARD["plain"])
    new = box.path / "my mail/user/new"
    harness.wait_for(lambda: new.exists() and list(new.iterdir()), 10, shlex.quote(str(new)))
