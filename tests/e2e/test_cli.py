"""chasq's subcommands against a running server: what they say, what they do, who may, and how it looks."""

import json
import os
import re
import shutil
import socket
import subprocess
import time
import unicodedata

import pytest

import harness
from harness import wait_for

OK, USAGE, NOUSER, UNAVAILABLE, TEMPFAIL, NOPERM, CONFIG = 0, 64, 67, 69, 75, 77, 78

SHOTS = harness.TREE / "build/shots"

# What a stranger may write, and what a terminal must not obey.
HOSTILE = ['"<script>alert(1)</script>"@far.test', '"a\\"b,c;d e"@far.test', "\u05d0\u05d1\u05d2@far.test",
           "x" * 64 + "@" + "y" * 60 + ".far.test", "j\u00fcrgen@far.test"]


@pytest.fixture
def server(chasq):
    """It cannot reach anybody: what is sent stays."""
    return chasq(domains={"here.test": {"users": ["user", "carol"], "aliases": "alice: user, carol, b@far.test\n"
                                        "out: | /bin/cat x\nround: round2\nround2: round\n"}})


@pytest.fixture
def tool(server):
    def run(*args, code=OK, **kwargs):
        r = server.run(*args, "-C", server.dir, **kwargs)
        assert r.returncode == code, (r.returncode, r.stdout, r.stderr)
        return (r.stdout if code == OK else r.stdout + r.stderr).decode()

    return run


def send(server, *rcpts, sender="me@here.test", text=b"Subject: hello\n\nbody\n"):
    r = server.sendmail("-i", "-f", sender, "--", *rcpts, input=text)
    assert r.returncode == 0, r.stderr


def queue(tool):
    return json.loads(tool("queue", "-j"))


def one(tool, server):
    server.wait_attempt()
    wait_for(lambda: all(m["error"] and m["state"] != "active" for m in queue(tool)), 20, "the attempt's end")
    return queue(tool)[0]


# ---- the queue ----------------------------------------------------------------------------------


def test_queue_show_raw(server, tool):
    assert tool("queue") == "the queue is empty\n" and queue(tool) == []
    send(server, "b@far.test", "c@far.test", text=b"Subject: hello\n\n" + b"line\n" * 5000)
    m = one(tool, server)
    assert m["from"] == "me@here.test" and m["recipients"] == ["b@far.test", "c@far.test"]
    assert m["recipients_left"] == 2 and m["error"].startswith("451 ") and m["size"] > 25000
    assert abs(m["created"] - time.time()) < 60 and m["next"] > m["created"]
    table = tool("queue").splitlines()
    assert table[0].split() == ["ID", "AGE", "NEXT", "SIZE", "FROM", "TO"]
    assert m["id"] in table[1] and "b@far.test, c@far.test" in table[1] and "451" in table[2]
    assert table[-1].startswith("1 message, 29K") or "30K" in table[-1]
    assert server.mailq().stdout.decode().splitlines()[0] == table[0]
    page = tool("show", m["id"])
    assert re.search(r"^RECIPIENTS\npending   b@far.test\n", page, re.M)
    assert re.search(r"^ATTEMPTS\n\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  pending", page, re.M)
    assert re.search(r"^HEADER\nReceived: ", page, re.M) and "\nSubject: hello\n" in page
    raw = server.run("show", m["id"], "--raw", "-C", server.dir).stdout
    assert raw.startswith(b"Received: ") and raw.endswith(b"\r\n\r\n" + b"line\r\n" * 5000)
    assert len(raw) == m["size"]
    for wrong in ("nosuch", "../../chasq.conf", "0" * 11):
        assert "no such message" in tool("show", wrong, code=UNAVAILABLE)
        assert "no such message" in tool("show", "--raw", wrong, code=UNAVAILABLE)


def test_flush_hold_release_remove(server, tool):
    send(server, "b@far.test")
    m = one(tool, server)
    assert tool("flush", m["id"]) == "flushed 1 message\n"
    wait_for(lambda: tool("show", m["id"]).count("  pending") > 1, 20, "another attempt")
    one(tool, server)
    assert tool("flush", "FAR.test") == "flushed 1 message\n"
    assert tool("flush", "else.test") == "flushed 0 messages\n"
    one(tool, server)
    assert tool("hold") == "nothing is held\n"
    assert tool("hold", "Far.Test") == "held far.test\n" and tool("hold") == "far.test\n"
    assert queue(tool)[0]["state"] == "held"
    tool("flush")
    server.stop()
    server.start()
    wait_for(lambda: queue(tool), 10, "the scan")
    assert queue(tool)[0]["state"] == "held" and " held " in tool("queue")
    assert tool("release", "far.test") == "released far.test\n"
    assert "not held" in tool("release", "far.test", code=UNAVAILABLE)
    m = one(tool, server)
    assert tool("hold", m["id"]) == f"held {m['id']}\n"
    assert queue(tool)[0]["state"] == "held" and "state     held" in tool("show", m["id"])
    tool("release", m["id"])
    one(tool, server)
    assert tool("remove", m["id"]) == f"removed {m['id']}\n"
    wait_for(lambda: not server.queued(), 10, "the removal")
    assert "no such message" in tool("remove", m["id"], code=UNAVAILABLE)
    # With a bounce its sender hears of it.
    send(server, "b@far.test", sender="user@here.test")
    m = one(tool, server)
    tool("remove", "--bounce", m["id"])
    notice = server.wait_messages("user")[0]
    assert b"b@far.test" in notice and not server.queued()


def test_hostile_content(server, tool):
    for rcpt in HOSTILE:
        send(server, rcpt, sender=HOSTILE[0],
             text=b"Subject: \x1b[2J\x1b]0;owned\x07 \xe2\x80\xaereversed\n\xff\xfe: x\n\nb\n")
    wait_for(lambda: len(queue(tool)) == len(HOSTILE), 20)
    listed = queue(tool)
    assert sorted(m["recipients"][0] for m in listed) == sorted(HOSTILE)
    assert all(m["from"] == HOSTILE[0] for m in listed)
    texts = [tool("queue"), tool("trace"), *(tool("show", m["id"]) for m in listed)]
    for text in texts:
        for c in text:
            assert c == "\n" or unicodedata.category(c) not in ("Cc", "Cf", "Zl", "Zp"), repr(c)
    for line in texts[0].splitlines():
        assert len(line) <= 80
    assert "<script>" in texts[0]


def test_a_client_that_stops_reading(server, tool):
    """In the middle of 1,000 messages: others are served, and it does not last."""
    fill(server, tool, 1000)
    with socket.socket(socket.AF_UNIX) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        s.connect(str(server.data / "control"))
        s.sendall(b"QUEUE\n")
        got = s.recv(1000)
        assert got.startswith(b"OK\n")
        for _ in range(3):
            assert len(queue(tool)) == 1000
        send(server, "user@here.test")
        server.wait_messages("user")
        # It goes on where it was.
        s.settimeout(20)
        while chunk := s.recv(65536):
            got += chunk
        lines = got.decode().splitlines()
        assert len(lines) >= 1002 and lines[-1] == "END"
        ids = [line.split("\t")[0] for line in lines[1:-1]]
        assert ids == sorted(set(ids), key=ids.index) and len(set(ids)) == len(ids)


# ---- the daemon ---------------------------------------------------------------------------------


def test_resolve(server, tool):
    rows = [line.split(None, 2) for line in tool("resolve", "Alice@HERE.test").splitlines()]
    assert rows[0] == ["TYPE", "DESTINATION", "VIA"]
    assert sorted(rows[1:]) == [["EMAIL", "b@far.test"], ["EMAIL", "carol@here.test"], ["EMAIL", "user@here.test"]]
    assert tool("resolve", "out@here.test").splitlines()[1].split(None, 1) == ["PIPE", "/bin/cat x"]
    assert "b@far.test" in tool("resolve", "b@far.test")
    assert "no such user" in tool("resolve", "nobody@here.test", code=NOUSER)
    assert "resolve: " in tool("resolve", "round@here.test", code=NOUSER)
    assert "not an address" in tool("resolve", "a b c@@", code=NOUSER)


def test_status_config_trace(server, tool):
    send(server, "b@far.test")
    m = one(tool, server)
    text = tool("status")
    assert re.search(r"^chasq +\S+ on chasq.test, process %d, up \d+s$" % server.pid, text, re.M)
    assert re.search(r"^queue +1 message, the oldest for \d+s$", text, re.M)
    assert f"listens       127.0.0.1:{server.port} for smtp\n" in text
    assert re.search(r"^COUNTER +VALUE$", text, re.M) and re.search(r"^control/commands +\d+$", text, re.M)
    assert not re.search(r" 0$", text.split("COUNTER")[1], re.M)
    assert len(tool("status", "-a").splitlines()) > len(text.splitlines())
    assert re.search(r'^hostname: "chasq.test" +# chasq.conf:\d+$', tool("config"), re.M)
    assert re.search(r"^max_data_size_mb: 50 +# default$", tool("config"), re.M)
    events = tool("trace", m["id"])
    assert events and all(m["id"] in line for line in events.splitlines())
    assert len(tool("trace", "-n", "3").splitlines()) == 3
    assert all(" queue " in line for line in tool("trace", "queue").splitlines())
    assert tool("trace", "nosuchid") == ""


def test_trace_follows(server, tool):
    p = subprocess.Popen([server.program, "trace", "-f", "-n", "0", "queue", "-C", server.dir],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        os.set_blocking(p.stdout.fileno(), False)
        seen = b""

        def comes():
            nonlocal seen
            send(server, "b@far.test")
            seen += p.stdout.read() or b""
            return b"far.test" in seen

        wait_for(comes, 20, "an event", 0.3)
        server.stop()  # ends it too
        assert p.wait(10) in (OK, TEMPFAIL)
    finally:
        p.kill()
        p.wait()


def test_reload(server, tool):
    tool("reload")
    server.conf["max_data_size_mb"] = 3
    server.write_conf()
    assert "changed max_data_size_mb: 50 -> 3" in tool("reload")
    server.conf["data_dir"] = str(server.dir / "other")
    server.write_conf()
    server.conf["data_dir"] = str(server.data)
    r = server.run("reload", "-C", server.dir)
    # The tools look where the file says: nobody is there.
    assert r.returncode == TEMPFAIL
    server.conf["max_data_size_mb"] = "much"
    server.write_conf()
    text = tool("reload", code=CONFIG)
    assert "max_data_size_mb" in text and "nothing was changed" in text
    assert "max_data_size_mb: 3 " in tool("config")


def test_stop(server, tool):
    send(server, "b@far.test")
    text = tool("stop")
    assert text == f"stopping, process {server.pid}\nstopped\n"
    assert server.process.wait(1) == 0  # it is gone when stop returns
    server.check_log()
    assert "not running" in tool("stop", code=TEMPFAIL)
    assert "not running" in tool("queue", code=TEMPFAIL)
    server.process = None


TOOLS = [["queue"], ["queue", "-j"], ["show", "x"], ["show", "x", "--raw"], ["flush"], ["flush", "far.test"],
         ["hold"], ["hold", "far.test"], ["release", "far.test"], ["remove", "x"], ["resolve", "user@here.test"],
         ["domaininfo"], ["status"], ["trace"], ["trace", "-f"], ["config"], ["reload"], ["stop"]]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_others_may_not(server, tool):
    for args in TOOLS:
        r = server.run(*args, "-C", server.dir, user="nobody")
        assert r.returncode == NOPERM and b"not allowed" in r.stderr and not r.stdout, (args, r)
    assert server.process.running()
    assert server.sendmail("user@here.test", input=b"\nx\n", user="nobody").returncode == 0
    # Unless the configuration says so.
    server.conf["control_users"] = ["nobody"]
    server.conf["control_mode"] = "0600"
    server.write_conf()
    tool("reload")
    socket_file = server.data / "control"
    assert socket_file.stat().st_mode & 0o777 == 0o600
    server.conf["control_mode"] = "0666"
    server.conf["control_owner"] = "nobody"
    server.write_conf()
    tool("reload")
    assert socket_file.stat().st_uid != 0
    r = server.run("queue", "-C", server.dir, user="nobody")
    assert r.returncode == OK, r


def test_help_and_misuse(server):
    listing = server.run("help").stdout.decode()
    for name in sorted({t[0] for t in TOOLS} | {"check", "dialog", "passwd", "user", "sendmail"}):
        assert re.search(rf"^  {name} ", listing, re.M)
        r = server.run(name, "--help")
        assert r.returncode == 0 and b"usage: " in r.stdout and not r.stderr, r
        for line in r.stdout.decode().splitlines():
            assert len(line) <= 80, line
        if name not in ("passwd", "user"):
            r = server.run(name, "--no-such-option")
            assert r.returncode == USAGE and r.stderr and not r.stdout, r
    assert max(map(len, listing.splitlines())) <= 80


def test_closed_pipe_is_quiet(server, tool):
    fill(server, tool, 1000)
    r = subprocess.run(f"'{server.program}' queue -C '{server.dir}' | head -n 1", shell=True, capture_output=True,
                       timeout=60)
    assert r.returncode == 0 and r.stderr == b"" and r.stdout.startswith(b"ID ")


# ---- a full queue on a terminal -----------------------------------------------------------------


def fill(server, tool, count):
    """Messages until there are so many, each tried once; the domain is held then, so that they stay as they are."""
    one_mail = (b"MAIL FROM:<a.rather.long.address.of.somebody@subdomain.example.org>\r\nRCPT TO:<bob@far.test>\r\n"
                b"DATA\r\nSubject: s\r\n\r\nbody\r\n.\r\n")
    while missing := count - len(queue(tool)):
        r = server.sendmail("-bs", input=b"EHLO x\r\n" + one_mail * min(missing, 50) + b"QUIT\r\n", timeout=60)
        assert r.returncode == 0, r
    wait_for(lambda: all(m["error"] and m["state"] != "active" for m in queue(tool)), 60, "an attempt for each", 0.5)
    tool("hold", "far.test")


def width(line):
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in line)


@pytest.mark.skipif(not shutil.which("tmux"), reason="no tmux")
def test_terminal_of_80_columns(server, tool, box):
    """Every subcommand on a queue of 1,000 messages; what a person sees is kept in build/shots."""
    send(server, *HOSTILE, sender=HOSTILE[0], text=b"Subject: \x1b[31mred \xe2\x80\xaertl\nX: " + b"long " * 50 + b"\n\nb\n")
    hostile = one(tool, server)["id"]
    server.conf["max_data_size_mb"] = 50
    tool("hold", hostile)
    fill(server, tool, 1001)
    SHOTS.mkdir(parents=True, exist_ok=True)
    sock = box.path / "tmux"
    env = {"PATH": os.environ["PATH"], "HOME": str(box.path), "TERM": "xterm-256color", "LC_ALL": "C.UTF-8",
           **server.env}

    def tmux(*args):
        return subprocess.run(["tmux", "-u", "-f", "/dev/null", "-S", sock, *args], env=env, capture_output=True,
                              check=True, timeout=20, text=True).stdout

    def shot(name, *args, heading):
        """Runs a command in a terminal; its screen and history, checked and kept."""
        argv = [server.program, *args, "-C", server.dir]
        done = box.path / f"{name}.done"
        command = " ".join(f"'{a}'" for a in map(str, argv)) + f"; echo $? > '{done}.new'; mv '{done}.new' '{done}'; sleep 60"
        tmux("new-session", "-d", "-s", name, "-x", "80", "-y", "24", ";", "set", "-g", "history-limit", "5000", ";",
             "new-window", "-k", "-t", f"{name}:0", "sh", "-c", command)
        wait_for(done.exists, 30, f"{name} to end")
        # -J joins what was wrapped: such lines would be longer than the terminal.
        text = tmux("capture-pane", "-p", "-J", "-S", "-", "-t", name)
        tmux("kill-session", "-t", name)
        lines = [line.rstrip() for line in text.rstrip("\n").splitlines()]
        (SHOTS / f"cli-{name}.txt").write_text("\n".join(lines) + "\n")
        for line in lines:
            assert width(line) <= 80, line
        assert re.search(heading, "\n".join(lines), re.M), "\n".join(lines[:40])
        return int(done.read_text()), lines

    box.on_stop(lambda: subprocess.run(["tmux", "-S", sock, "kill-server"], capture_output=True, check=False))
    tmux("new-session", "-d", "-s", "keep", "-x", "80", "-y", "24", "sleep", "600", ";", "set", "-g",
         "history-limit", "5000")
    code, lines = shot("queue", "queue", heading=r"^ID +AGE +NEXT +SIZE +FROM +TO")
    assert code == 0 and lines[-1].startswith("1001 messages, ") and len(lines) == 2 * 1001 + 2
    assert shot("show", "show", hostile, heading=r"^RECIPIENTS$")[0] == 0
    assert shot("hold-list", "hold", heading=r"^far\.test$")[0] == 0
    assert shot("flush", "flush", heading=r"^flushed \d+ message")[0] == 0
    assert shot("release", "release", hostile, heading="^released ")[0] == 0
    assert shot("hold", "hold", hostile, heading="^held ")[0] == 0
    assert shot("resolve", "resolve", "alice@here.test", heading="^TYPE +DESTINATION +VIA")[0] == 0
    assert shot("resolve-none", "resolve", "none@here.test", heading="^resolve: ")[0] == NOUSER
    assert shot("domaininfo", "domaininfo", heading="^no domain is known")[0] == 0
    assert shot("status", "status", heading="^COUNTER +VALUE")[0] == 0
    assert shot("trace", "trace", heading="queue +")[0] == 0
    assert shot("config", "config", heading="^hostname: ")[0] == 0
    assert shot("reload", "reload", heading=".")[0] == 0
    assert shot("help", "help", heading="^usage: chasq COMMAND")[0] == 0
    assert shot("queue-help", "queue", "--help", heading="^usage: chasq queue")[0] == 0
    assert shot("misuse", "remove", heading="^usage: chasq remove")[0] == USAGE
    assert shot("remove", "remove", hostile, heading="^removed ")[0] == 0
    assert shot("stop", "stop", heading="^stopped$")[0] == 0
    server.process.wait(10)
    server.process = None
