"""chasq passwd and chasq user."""

import os
import pty
import signal
import stat
import subprocess
import time

import pytest

import harness

OK, USAGE, DATAERR, NOUSER, NOHOST, NOPERM = 0, 64, 65, 67, 68, 77


@pytest.fixture
def tool(box):
    """Runs the tool on a directory with the domain x.test and an older spelling of ñ.test."""
    directory = box.dir("conf")
    for name in ("x.test", "xn--ida.test"):
        (directory / "domains" / name).mkdir(parents=True)

    def run(*args, code=OK, password=None):
        result = subprocess.run([harness.binary(), *args, "-C", directory], capture_output=True,
                                input=password if password is not None else "", text=True, timeout=60)
        assert result.returncode == code, (result.returncode, result.stdout, result.stderr)
        return result.stdout if code == OK else result.stderr or result.stdout

    run.dir = directory
    run.users = directory / "domains/x.test/users"
    return run


def test_a_password_is_set_checked_changed_and_removed(tool):
    tool("passwd", "Ana@X.test", password="geheim\n")
    text = tool.users.read_text()
    assert "pbkdf2 {" in text and 'key: "ana"' in text and "geheim" not in text
    assert stat.S_IMODE(tool.users.stat().st_mode) == 0o640
    tool("user", "check", "ana@x.test", password="geheim\n")
    tool("user", "check", "ana@x.test", password="geheim")  # no line end
    assert "wrong" in tool("user", "check", "ana@x.test", password="Geheim\n", code=NOPERM)
    tool("passwd", "ana@x.test", password="other word\r\n")
    tool("user", "check", "ana@x.test", password="other word\n")
    tool("user", "check", "ana@x.test", password="geheim\n", code=NOPERM)
    tool("user", "remove", "ana@x.test")
    assert "no user" in tool("user", "remove", "ana@x.test", code=NOUSER)
    tool("user", "check", "ana@x.test", password="x\n", code=NOUSER)


def test_list(tool):
    tool("passwd", "zoe@x.test", password="p\n")
    tool("user", "add", "--receive-only", "rita@x.test")
    tool("user", "add", "--receive-only", "ida@\u00f1.test")
    assert tool("user", "list", "x.test") == "rita@x.test\treceive only\nzoe@x.test\tpbkdf2\n"
    assert tool("user", "list", "\u00d1.test") == "ida@\u00f1.test\treceive only\n"
    assert set(tool("user", "list").splitlines()) == {
        "rita@x.test\treceive only", "zoe@x.test\tpbkdf2", "ida@\u00f1.test\treceive only"}
    assert "already" in tool("user", "add", "--receive-only", "RITA@x.test", code=DATAERR)
    tool("user", "check", "rita@x.test", password="\n", code=DATAERR)
    tool("user", "check", "rita@x.test", password="x\n", code=NOPERM)


def test_what_chasquid_wrote_is_kept(tool):
    tool.users.write_text('users:{ key: "old" value:{ scrypt:{ logN:4 r:1 p:1 keyLen:8 salt:"\\x01\\x00\\xff"'
                          ' encrypted:"12345678" }}}\nusers:{ key: "p" value:{ plain:{ password: "x" }}}\n')
    tool("passwd", "new@x.test", password="n\n")
    assert tool("user", "list", "x.test") == "new@x.test\tpbkdf2\nold@x.test\tscrypt\np@x.test\tplain\n"
    tool("user", "check", "p@x.test", password="x\n")
    assert 'salt: "\\x01\\x00\\xff"' in tool.users.read_text()


@pytest.mark.parametrize("args", [
    ["passwd"], ["passwd", "a@x.test", "b@x.test"], ["passwd", "--nonsense", "a@x.test"], ["user"],
    ["user", "frobnicate", "a@x.test"], ["user", "add", "a@x.test"], ["user", "check"], ["user", "remove"],
    ["user", "remove", "--receive-only", "a@x.test"]])
def test_wrong_usage(tool, args):
    tool(*args, code=USAGE, password="x\n")


def test_refused(tool):
    for name in ("ana", "@x.test", "a/b@x.test", "<>", "\"a b\"@x.test", ".@x.test"):
        tool("passwd", name, password="x\n", code=DATAERR)
    assert "domains/y.test" in tool("passwd", "ana@y.test", password="x\n", code=NOHOST)
    for bad in ("", "\n", "x" * 300 + "\n", "a\0b\n"):
        tool("passwd", "ana@x.test", password=bad, code=DATAERR)
    assert not tool.users.exists()
    tool.users.write_text("users: { nonsense }\n")
    assert "users:1" in tool("passwd", "ana@x.test", password="x\n", code=73)
    assert tool.users.read_text() == "users: { nonsense }\n"


def on_terminal(argv, answers):
    """Runs a program on a terminal, types the answers when it asks. Returns exit code and screen."""
    pid, fd = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # ignored by what a shell put in the background
        os.execv(argv[0], argv)
    screen = b""
    try:
        for answer in answers:
            prompts = screen.count(b": ")
            end = time.monotonic() + 30
            while screen.count(b": ") == prompts and time.monotonic() < end:
                screen += os.read(fd, 1000)
            time.sleep(0.1)
            os.write(fd, answer)
        while True:
            screen += os.read(fd, 1000)
    except OSError:
        pass
    status = os.waitpid(pid, 0)[1]
    os.close(fd)
    return status, screen.decode()


def test_the_terminal_shows_no_password(tool):
    argv = [str(harness.binary()), "passwd", "-C", str(tool.dir), "ana@x.test"]
    status, screen = on_terminal(argv, [b"geheim\n", b"geheim\n"])
    assert status == 0 and "geheim" not in screen and screen.count(": ") == 2
    tool("user", "check", "ana@x.test", password="geheim\n")
    status, screen = on_terminal(argv, [b"eins\n", b"zwei\n"])
    assert os.waitstatus_to_exitcode(status) == DATAERR and "not the same" in screen
    status, screen = on_terminal(argv, [b"abc\x03"])
    assert os.waitstatus_to_exitcode(status) == -2, "Control-C ends it"
    tool("user", "check", "ana@x.test", password="geheim\n")


def test_many_at_once_lose_nothing(tool):
    running = [subprocess.Popen([harness.binary(), "user", "add", "--receive-only", f"u{i}@x.test", "-C", tool.dir])
               for i in range(20)]
    assert [p.wait(60) for p in running] == [0] * 20
    assert len(tool("user", "list", "x.test").splitlines()) == 20
