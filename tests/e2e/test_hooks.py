"""hooks/alias-resolve, hooks/rcpt and hooks/post-data with real programs, and with rspamd."""

import os
import pathlib
import threading
import time

import pytest

import harness
import rspamd
from certs import make_cert
from smtpclient import Client, send

TEXT = b"Subject: x\r\n\r\ntext\r\n"


def put(c, name, script, mode=0o755):
    """Puts a hook there in one step; returns its path."""
    hooks = c.dir / "hooks"
    hooks.mkdir(exist_ok=True)
    new = hooks / (name + ".new")
    new.write_text("#!/bin/sh\n" + script)
    new.chmod(mode)
    new.rename(hooks / name)
    return hooks / name


def greet(c, **kwargs):
    client = Client(c.port, **kwargs)
    client.hello()
    return client


def give(c, *to, sender="a@client.test", data=TEXT, expect=250):
    """One message in a session of its own; returns the reply to it."""
    with greet(c) as client:
        return client.message(sender, list(to or ("user@here.test",)), data, expect)


def latest(c, user="user", count=1):
    return c.wait_messages(user, count)[-1].decode().replace("\r\n", "\n")


@pytest.fixture
def server(chasq):
    return lambda **kwargs: chasq(
        conf={"hostname": "here.test", "trusted_network": "127.0.0.9/32"},
        domains={"here.test": {"users": ["user", "other"], "aliases": "list: user, other\n"}},
        **kwargs)


# ---- post-data ----------------------------------------------------------------------------------


def test_post_data_sees_the_message_and_adds_fields(server, box):
    c = server()
    seen = box.path / "seen"
    put(c, "post-data", f"pwd > {seen}.pwd; env | sort > {seen}.env; cat > {seen}\n"
                        "echo 'X-Checked: yes'; printf 'X-Long: a\\n\\tb\\n'\n")
    give(c, "user@here.test", "list@here.test", sender="user@HERE.test",
         data=b"Subject: y\r\n\r\n.dot\r\nno last line end")
    text = latest(c)
    head = text.split("\n\n")[0]
    assert "\nX-Checked: yes\nX-Long: a\n\tb\nReceived: " in "\n" + head
    copy = seen.read_bytes()
    assert b"\r" not in copy and copy.startswith(b"Received: from client.test")
    # The hook's input is what is queued, but for its own fields.
    assert text.endswith(copy.decode()) and copy.endswith(b"\n\n.dot\nno last line end\n")
    assert pathlib.Path(str(seen) + ".pwd").read_text().strip() == str(c.dir)
    env = dict(line.split("=", 1) for line in pathlib.Path(str(seen) + ".env").read_text().splitlines())
    assert env["REMOTE_ADDR"].startswith("127.0.0.1:")
    assert env["MAIL_FROM"] == "user@here.test"
    assert env["RCPT_TO"] == "user@here.test list@here.test"
    assert env["EHLO_DOMAIN"] == env["EHLO_DOMAIN_RAW"] == "client.test"
    assert (env["AUTH_AS"], env["ON_TLS"], env["FROM_LOCAL_DOMAIN"], env["SPF_PASS"]) == ("", "0", "1", "0")
    # One's own message goes through it as well.
    assert c.sendmail("user@here.test", input=b"Subject: z\n\nx\n").returncode == 0
    assert "X-Checked: yes" in latest(c, count=2)
    assert "\nREMOTE_ADDR=\n" in pathlib.Path(str(seen) + ".env").read_text()


@pytest.mark.parametrize("script, reply", [
    ("echo first; echo go away; exit 20", "554 5.7.1 go away"),
    ("exit 20", "554 5.7.1 refused by local policy"),
    ("echo later; exit 1", "451 4.3.0 later"),
    ("exit 75", "451 4.3.0 the hook post-data failed: exit status 75"),
    ("echo x; kill -9 $$", "451 4.3.0 x"),
    ("kill -SEGV $$", "451 4.3.0 the hook post-data failed: killed by signal 11"),
    ("yes", "451 4.3.0 the hook post-data failed"),
    ("echo 'X-A: b'; yes | head -c 1000000 >&2; exit 20", "554 5.7.1 X-A: b"),
])
def test_post_data_refuses(server, script, reply):
    c = server()
    put(c, "post-data", script + "\n")
    with greet(c) as client:
        got = client.message("a@client.test", "user@here.test", TEXT, expect=None)
        assert got.text.startswith(reply), got
        # The session lives, and the next message may be better.
        put(c, "post-data", "exit 0\n")
        client.message("a@client.test", "user@here.test", TEXT)
    c.wait_queue_empty()
    assert len(c.messages("user")) == 1


@pytest.mark.parametrize("output", [
    "hello", "X-A: b\\n\\nbody", "X-A: b\\n\\n", " X-A: b\\n", "X-A: b", "X-A: b\\r\\n\\r\\n", "X-A: \\000\\n",
    "X A: b\\n", "X-A: \\377\\n",
])
def test_post_data_garbage_is_ignored(server, output):
    c = server()
    put(c, "post-data", f"printf '{output}'\n")
    give(c)
    assert "X" not in latest(c).split("\nSubject")[0].split("Received")[0]
    assert "hook output ignored" in c.log()


def test_not_executable_and_taken_away(server):
    c = server()
    give(c)
    for mode in (0o644, 0o755):
        put(c, "post-data", "exit 0\n", mode)
        give(c, expect=451 if mode == 0o644 else 250)
    (c.dir / "hooks/post-data").write_text("#!/not/there\n")
    give(c, expect=451)
    (c.dir / "hooks/post-data").unlink()
    (c.dir / "hooks/post-data").symlink_to("nowhere")
    give(c)
    (c.dir / "hooks/post-data").unlink()
    give(c)
    # A hook that comes after DATA is for the next message; one that goes before the end is gone.
    with greet(c) as client:
        for first, then in ((None, "exit 20\n"), ("exit 20\n", None)):
            if first:
                put(c, "post-data", first)
            client.cmd("MAIL FROM:<a@client.test>", 250)
            client.cmd("RCPT TO:<user@here.test>", 250)
            client.cmd("DATA", 354)
            if then:
                put(c, "post-data", then)
            else:
                (c.dir / "hooks/post-data").unlink()
            client.cmd(b"Subject: x\r\n\r\n.", 250)
    c.wait_messages("user", 6)


def pid_of(path):
    return harness.wait_for(lambda: path.exists() and path.read_text().strip(), 10, f"{path}")


def gone(pid):
    """Waits until the process has ended, whether it was reaped yet or not."""

    def ended():
        try:
            return "\nState:\tZ" in pathlib.Path(f"/proc/{pid}/status").read_text()
        except OSError:  # it may go between the opening and the reading
            return True

    harness.wait_for(ended, 10, f"end of {pid}")


def test_hanging_hooks_end(server, short_build, box):
    c = server(program=short_build)
    pid = box.path / "pid"
    put(c, "post-data", f"sleep 1000 & echo $! > {pid}; wait\n")
    began = time.monotonic()
    reply = give(c, expect=451)
    assert "time limit exceeded" in reply.text
    assert time.monotonic() - began < 10
    gone(pid.read_text().strip())
    put(c, "rcpt", "trap '' TERM; while :; do sleep 0.1; done\n")
    with greet(c) as client:
        client.cmd("MAIL FROM:<a@client.test>", 250)
        assert "451 4.3.0 " in client.cmd("RCPT TO:<user@here.test>").text


@pytest.mark.parametrize("hook", ["post-data", "rcpt", "alias-resolve"])
def test_client_or_server_goes_meanwhile(server, box, hook):
    c = server()
    pid = box.path / "pid"
    put(c, hook, f"echo $$ > {pid}.new; mv {pid}.new {pid}; exec sleep 1000\n")

    def wait_in_hook():
        pid.unlink(missing_ok=True)
        client = greet(c)
        client.send("MAIL FROM:<a@client.test>\r\nRCPT TO:<user@here.test>\r\n")
        if hook == "post-data":
            client.send("DATA\r\n")
            for _ in range(3):
                client.read()
            client.send("x\r\n.\r\n")
        else:
            client.read()
        return client, pid_of(pid)

    client, number = wait_in_hook()
    client.reset()
    gone(number)
    assert "smtpd queued" not in c.log()
    client, number = wait_in_hook()
    c.process.kill(9)
    c.process.wait()
    os.kill(int(number), 9)
    client.close()
    # What was not accepted is nowhere.
    (c.dir / "hooks" / hook).unlink()
    c.start()
    c.wait_queue_empty()
    give(c, data=b"Subject: second\r\n\r\n")
    assert "second" in latest(c) and len(c.messages("user")) == 1


def test_hooks_run_side_by_side(server):
    c = server()
    put(c, "post-data", "sleep 1; echo X-A: b\n")
    replies = []

    def one():
        replies.append(give(c).code)

    began = time.monotonic()
    threads = [threading.Thread(target=one) for _ in range(8)]
    for t in threads:
        t.start()
    # Others are served meanwhile.
    with greet(c) as client:
        client.cmd("NOOP", 250)
        assert time.monotonic() - began < 1
    for t in threads:
        t.join()
    assert replies == [250] * 8
    assert time.monotonic() - began < 5
    c.wait_messages("user", 8)


def test_a_large_message_is_read_or_not(server, box):
    c = server()
    data = b"Subject: big\r\n\r\n" + b"0123456789abcdef" * 60 + b"\r\n"
    data += (b"x" * 76 + b"\r\n") * 100000
    count = box.path / "count"
    put(c, "post-data", f"wc -c > {count}\n")
    give(c, data=data)
    text = latest(c)
    body = data.replace(b"\r\n", b"\n").decode()
    assert text.endswith(body)
    trace = text[text.index("Received: from client.test"):]
    assert int(count.read_text()) == len(trace)
    put(c, "post-data", "exec <&-; echo X-Unread: yes\n")
    give(c, data=data)
    assert "X-Unread: yes" in latest(c, count=2)


# ---- rcpt ---------------------------------------------------------------------------------------


def test_rcpt(server, box):
    c = server()
    seen = box.path / "seen"
    put(c, "rcpt", f'echo "$1|$RCPT_TO|$MAIL_FROM|$AUTH_AS" >> {seen}\n'
                   'case $1 in other@*) echo not today; exit 20;; *late*) exit 1;; esac\n')
    with greet(c) as client:
        client.cmd("MAIL FROM:<a@client.test>", 250)
        client.cmd("RCPT TO:<User+x@HERE.test>", 250)
        assert client.cmd("RCPT TO:<other@here.test>").text == "550 5.7.1 not today"
        assert client.cmd("RCPT TO:<user+late@here.test>").text.startswith("451 4.3.0 ")
        assert client.cmd("RCPT TO:<nobody@here.test>").text.startswith("550 5.1.1 ")
        assert client.cmd("RCPT TO:<x@far.test>").text.startswith("550 5.7.1 relaying")
        client.cmd("RCPT TO:<list@here.test>", 250)
        client.cmd("RCPT TO:<list@here.test>", 250)
        client.cmd("DATA", 354)
        client.cmd(b"Subject: x\r\n\r\n.", 250)
    assert seen.read_text().splitlines() == [
        "User+x@here.test||a@client.test|",
        "other@here.test|User+x@here.test|a@client.test|",
        "user+late@here.test|User+x@here.test|a@client.test|",
        "list@here.test|User+x@here.test|a@client.test|",
    ]
    c.wait_messages("other")
    # Users of this machine are not asked about.
    assert c.sendmail("other@here.test", input=b"Subject: z\n\nx\n").returncode == 0
    c.wait_messages("other", 2)
    assert len(seen.read_text().splitlines()) == 4


def test_rcpt_for_relaying_hosts(server, box):
    c = server()
    put(c, "rcpt", 'case $1 in *@far.test) exit 20;; esac\n')
    with greet(c, source="127.0.0.9") as client:
        client.cmd("MAIL FROM:<a@client.test>", 250)
        client.cmd("RCPT TO:<x@far.test>", 550)
        client.cmd("RCPT TO:<user@here.test>", 250)


def test_login_is_told(chasq, box):
    port = harness.free_port()
    c = chasq(start=False, conf={"hostname": "here.test", "submission_over_tls_address": f"127.0.0.1:{port}"},
              domains={"here.test": {"users": ["user"]}})
    make_cert(box.path, ["here.test"]).install(c.dir / "certs", "here.test")
    seen = box.path / "seen"
    put(c, "rcpt", f'echo "$AUTH_AS $ON_TLS $FROM_LOCAL_DOMAIN" > {seen}\n')
    put(c, "post-data", 'echo "X-Auth: $AUTH_AS"\n')
    c.start()
    import base64
    import ssl
    client = Client(port, greet=False)
    client.sock = ssl._create_unverified_context().wrap_socket(client.sock, server_hostname="here.test")
    assert client.read().code == 220
    client.hello()
    client.cmd("AUTH PLAIN " + base64.b64encode(b"\0user@here.test\0x").decode(), 235)
    client.message("user@here.test", "user@here.test", b"Subject: x\r\n\r\nx\r\n")
    assert seen.read_text() == "user@here.test 1 1\n"
    head = latest(c).split("\n\n")[0]
    assert head.index("X-Auth: user@here.test") < head.index("Date: ") < head.index("Received: ")
    client.close()


# ---- alias-resolve ------------------------------------------------------------------------------


def test_alias_resolve_answers(server, box):
    c = server()
    put(c, "alias-resolve", 'case $1 in team@here.test) echo "user, other";;\n'
                            'broken@*) exit 3;; garbage@*) echo "a@@b ,,";; gone@*) echo nobody;; esac\n')
    with greet(c) as client:
        client.cmd("MAIL FROM:<a@client.test>", 250)
        client.cmd("RCPT TO:<Team@here.test>", 250)
        client.cmd("RCPT TO:<broken@here.test>", 451)
        client.cmd("RCPT TO:<garbage@here.test>", 451)
        client.cmd("RCPT TO:<gone@here.test>", 550)
        client.cmd("RCPT TO:<nobody@here.test>", 550)
        client.cmd("DATA", 354)
        client.cmd(b"Subject: x\r\n\r\n.", 250)
    c.wait_messages("user")
    c.wait_messages("other")


# ---- rspamd -------------------------------------------------------------------------------------


def test_the_example_with_rspamd(chasq, box):
    judge = rspamd.Rspamd(box)
    c = chasq(conf={"hostname": "here.test", "sandbox_readable": str(harness.TREE / "build")},
              domains={"here.test": {"users": ["user"]}},
              env={"PATH": f"{judge.bin()}:{os.environ['PATH']}"})
    example = (harness.TREE / "etc/hooks/post-data").read_text()
    assert "server=127.0.0.1:11333\n" in example
    put(c, "post-data", example.replace("127.0.0.1:11333", f"127.0.0.1:{judge.port}"))
    good = b"From: a@client.test\r\nSubject: x\r\n\r\nhello\r\n"
    give(c, data=good)
    head = latest(c)
    assert "X-Spam-Action: no action\n" in head and "X-Spam-Score: 0.00 / 15.00\n" in head
    reply = give(c, data=good + rspamd.SPAM + b"\r\n", expect=554)
    assert reply.text == "554 5.7.1 this message looks like spam"
    log = judge.process.log()
    assert "ip: 127.0.0.1" in log and "from: <a@client.test>" in log
    # One's own mail is not judged, and without rspamd mail comes in as it did.
    assert c.sendmail("user@here.test", input=b"Subject: z\n\n" + rspamd.SPAM + b"\n").returncode == 0
    assert "X-Spam" not in latest(c, count=2)
    judge.process.end()
    give(c, data=good + rspamd.SPAM + b"\r\n")
    harness.wait_for(lambda: "rspamd does not answer" in c.log(), 10, "a word in the log")
