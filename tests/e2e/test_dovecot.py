"""dovecot.c against a real Dovecot, by way of tests/tools/dovecot_try.c."""

import subprocess

import pytest

import harness
from dovecot import Dovecot

SOURCES = ("tests/tools/dovecot_try.c dovecot.c base64.c kdf.c io.c loop.c log.c log_sink.c trace.c stat.c text.c "
           "text_literal.c textfield.c bytes.c buf.c dns_addr.c loop_end.c").split()
USERS = {"ana@x.test": "ge heim", "ben@x.test": "b", "bare": "nackt"}


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """Plain streams are enough: Dovecot is on this machine."""
    tool = tmp_path_factory.mktemp("dovecot") / "dovecot_try"
    subprocess.run(["cc", "-std=c11", "-D_GNU_SOURCE", "-DWITH_TLS=0", "-g", "-fsanitize=address,undefined",
                    "-I.", *SOURCES, "-o", tool], cwd=harness.TREE, check=True)
    return tool


class Asker:
    """One run of the tool, which keeps running from question to question."""

    def __init__(self, program, *args):
        self.p = subprocess.Popen([program, *map(str, args)], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, text=True)

    def __call__(self, question):
        self.p.stdin.write(question + "\n")
        self.p.stdin.flush()
        return self.p.stdout.readline().rstrip("\n")

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.p.stdin.close()
        code = self.p.wait(10)
        self.p.stdout.close()
        assert code == 0


def test_users_and_passwords(box, program):
    d = Dovecot(box, USERS).start()
    with Asker(program, "-d", d.run) as ask:
        assert ask("exists ana@x.test") == "yes"
        assert ask("exists nobody@x.test") == "no"
        assert ask("auth ana@x.test ge heim") == "yes ana@x.test"
        assert ask("auth ana@x.test geheim") == "no"
        assert ask("auth nobody@x.test b") == "no"
        assert ask("auth bare nackt") == "yes bare"
        assert ask("auth ANA@x.test ge heim") == "yes ana@x.test"
        assert ask("exists ana@x.test\tuser=ben@x.test") == "no"
    assert "192.0.2.9" in d.log(), "Dovecot was not told who asks"


def test_configured_paths(box, program):
    d = Dovecot(box, USERS, client="elsewhere").start()
    with Asker(program, "-d", d.dir) as ask:
        assert ask("auth ben@x.test b").startswith("trouble")
    with Asker(program, "-u", d.userdb, "-c", d.client) as ask:
        assert ask("auth ben@x.test b") == "yes ben@x.test"
        assert ask("exists ben@x.test") == "yes"


def test_restart_heals(box, program):
    d = Dovecot(box, USERS)
    with Asker(program, "-d", d.run) as ask:
        assert ask("auth ben@x.test b") == "trouble: Dovecot's client socket cannot be reached"
        d.start()
        assert ask("auth ben@x.test b") == "yes ben@x.test"
        d.stop()
        assert ask("auth ben@x.test b").startswith("trouble")
        assert ask("exists ben@x.test").startswith("trouble")
        d.set_users({"ben@x.test": "new"})
        d.start()
        assert ask("auth ben@x.test b") == "no"
        assert ask("auth ben@x.test new") == "yes ben@x.test"
        assert ask("exists ana@x.test") == "no"


def test_temporary_failure_is_no_refusal(box, program):
    """A password database that fails says nothing about passwords."""
    check = box.path / "check"
    check.write_text("#!/bin/sh\nexit 111\n")
    check.chmod(0o755)
    d = Dovecot(box, USERS, extra=f"passdb {{\n driver = checkpassword\n args = {check}\n}}").start()
    with Asker(program, "-d", d.run) as ask:
        assert ask("auth ben@x.test b") == "yes ben@x.test"
        assert ask("auth ben@x.test c") == "trouble: Dovecot reports a temporary failure"


def test_failures_are_delayed_by_dovecot(box, program):
    d = Dovecot(box, USERS, extra="auth_failure_delay = 1 secs").start()
    with Asker(program, "-d", d.run) as ask:
        assert ask("auth ben@x.test x") == "no"
        assert ask("auth ben@x.test b") == "yes ben@x.test"
