"""The monitoring page as HTTP: hostile and slow clients, passwords, names; and the pages for machines."""

import base64
import contextlib
import http.client
import json
import re
import shutil
import socket
import subprocess
import time
import urllib.parse

import pytest

import harness
from smtpclient import Client, send

PAGES = ["/", "/metrics", "/debug/vars", "/debug/queue", "/debug/config", "/debug/traces"]


@pytest.fixture
def page(chasq):
    """A chasq with the page on loopback, and its port; with a password when one is given."""

    def make(password=None, **conf):
        c = chasq(start=False)
        c.http = harness.free_port()
        c.conf.update(monitoring_address=f"127.0.0.1:{c.http}", **conf)
        if password:
            file = c.dir / "monitoring-password"
            file.write_text(password + "\n")
            file.chmod(0o600)
            c.conf["monitoring_password_file"] = str(file)
        c.write_conf()
        return c.start()

    return make


def dial(c, source="127.0.0.1"):
    return socket.create_connection(("127.0.0.1", c.http), 10, (source, 0))


def raw(c, data, source="127.0.0.1"):
    """All that is said to these bytes until the server closes."""
    with dial(c, source) as s:
        s.sendall(data)
        got = b""
        with contextlib.suppress(ConnectionResetError):
            while more := s.recv(65536):
                got += more
        return got


def get(c, path="/", method="GET", headers=None, body=None, source="127.0.0.1"):
    """Status, header fields, content."""
    h = http.client.HTTPConnection("127.0.0.1", c.http, timeout=10, source_address=(source, 0))
    h.request(method, path, body, headers or {})
    r = h.getresponse()
    content = r.read()
    h.close()
    return r.status, r.headers, content


def basic(login):
    return {"Authorization": "Basic " + base64.b64encode(login.encode()).decode()}


# ---- pages --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES)
def test_head_is_get_without_body(page, path):
    c = page()
    status, fields, content = get(c, path)
    head_status, head_fields, nothing = get(c, path, "HEAD")
    assert status == head_status == 200 and content and not nothing
    assert fields.get("Transfer-Encoding") == head_fields.get("Transfer-Encoding")
    if "Content-Length" in fields:
        # Counters move between the two, and with them digits.
        assert abs(int(head_fields["Content-Length"]) - len(content)) < 100
    assert fields["Content-Type"] == head_fields["Content-Type"]
    assert "default-src 'none'" in fields["Content-Security-Policy"]
    assert fields["X-Content-Type-Options"] == "nosniff"


def test_metrics_and_vars(page):
    c = page()
    _, fields, text = get(c, "/metrics")
    assert fields["Content-Type"].startswith("text/plain; version=0.0.4") and b"# EOF" not in text
    accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3"
    _, fields, text = get(c, "/metrics", headers={"Accept": accept})
    assert fields["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert text.endswith(b"# EOF\n")
    assert re.search(rb"^chasq_queue_length 0$", text, re.M)
    assert re.search(rb"^process_resident_memory_bytes [0-9]+$", text, re.M)
    assert re.search(rb"^chasq_queue_oldest_seconds 0$", text, re.M)
    _, fields, text = get(c, "/debug/vars")
    assert fields["Content-Type"].startswith("application/json")
    assert json.loads(text)["queue/length"] == 0


def test_queue_dump(page):
    c = page()
    for i in range(30):
        assert c.sendmail("-f", "from@here.test", f"to{i}@there.test", "second@there.test",
                          input=b"Subject: x\n\nx\n").returncode == 0
    text = get(c, "/debug/queue")[2].decode()
    assert text.startswith("# Queue status\n\ndate: 20") and "\nlength: 30\n\n## Item " in text
    items = text.split("## Item ")[1:]
    assert len(items) == 30
    for i, item in enumerate(items):
        assert re.fullmatch(
            r"\S+\ncreated at: [-0-9]{10} [:0-9]{8} \+0000 UTC\nfrom: from@here.test\n"
            rf"to: \[to{i}@there.test second@there.test\]\n"
            rf"PENDING to{i}@there.test \(EMAIL\)\n  original address: to{i}@there.test\n"
            r'  last failure: ".*"\n'
            r"PENDING second@there.test \(EMAIL\)\n  original address: second@there.test\n"
            r'  last failure: ".*"\n\n', item), item


def test_queue_dump_of_hostile_bytes(page):
    """A queue file's values become one clean line each."""
    c = page()
    c.sendmail("-f", "from@here.test", "to@there.test", input=b"Subject: x\n\nx\n")
    harness.wait_for(lambda: c.queued(), 10, "a message in the queue")
    c.stop()
    file = c.queued()[0]
    data = file.read_bytes()
    changed = data.replace(b'from@here.test', b'evil\\n## Item \\033[2Jx@y', 1)
    assert changed != data
    file.write_bytes(changed)
    c.start()
    harness.wait_for(lambda: b"length: 1" in get(c, "/debug/queue")[2], 10, "the scan")
    text = get(c, "/debug/queue")[2]
    assert text.count(b"\n## Item ") == 1 and b"\x1b" not in text


def test_slow_reader_of_a_long_queue(page):
    """A dump of 500 messages to who reads slowly, while others are answered."""
    c = page(trusted_network="127.0.0.0/8", max_queue_items=2000)
    with Client(c.port) as smtp:
        smtp.cmd("EHLO x")
        for i in range(500):
            smtp.message("from@here.test", [f"{'x' * 60}{i}@there.test"], b"Subject: x\r\n\r\nx\r\n")
    with dial(c) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.sendall(b"GET /debug/queue HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        got = b""
        while more := s.recv(20000):
            got += more
            if len(got) < 60000:
                time.sleep(0.01)
                assert get(c, "/metrics")[0] == 200
    assert got.count(b"## Item ") == 500 and got.endswith(b"\r\n0\r\n\r\n")


def test_config_and_traces(page):
    c = page()
    text = get(c, "/debug/config")[2].decode()
    assert f'hostname: "{c.name}.test"' in text and "monitoring_address" in text
    send(c.port, "a@b.test", ["user@here.test"], b"Subject: x\r\n\r\nx\r\n")
    text = get(c, "/debug/traces")[2].decode()
    lines = text.splitlines()
    assert lines and all(re.match(r"20[-0-9]{8} [:0-9]{8}\.[0-9]{3} (session|delivery|queue|daemon) "
                                  r"(error|info|debug) \S+ \S", x) for x in lines), text
    sessions = get(c, "/debug/traces?kind=session")[2].decode().splitlines()
    assert sessions and all(x.split()[2] == "session" for x in sessions)
    one = sessions[-1].split()[4]
    assert all(x.split()[4] == one for x in get(c, f"/debug/traces?id={one}")[2].decode().splitlines())
    assert get(c, "/debug/traces?kind=session&n=2")[2].decode().splitlines() == sessions[-2:]
    assert get(c, "/debug/traces?kind=nonsense")[0] == 400
    assert get(c, "/debug/traces?n=x")[0] == 400


# ---- requests -----------------------------------------------------------------------------------

HEAD = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.parametrize("data,code", [
    (b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 20000 + b"\r\n\r\n", 431),
    (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414),
    (HEAD + b"X: y\r\n" * 1000 + b"\r\n", 431),
    (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n"
     b"0\r\n\r\nGET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
     b"0\r\n\r\nGET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", 501),
    (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nContent-Length: 44\r\n\r\n"
     b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n", 413),
    (b"GET /metrics HTTP/1.1\nHost: localhost\n\n", 400),
    (b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\r\n\r\n", 400),
    (b"GET /\0 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    (b"GET /metrics HTTP/1.1\r\n\r\n", 400),
    (b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: evil.test\r\n\r\n", 400),
    (b"EHLO me\r\nMAIL FROM:<a@b>\r\n", 400),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), 400),
    (b"TRACE / HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
    (b"FROB / HTTP/1.1\r\nHost: localhost\r\n\r\n", 501),
])
def test_bad_requests(page, data, code):
    """One answer and the end: what follows is not taken for a request."""
    got = raw(page(), data)
    assert got.startswith(b"HTTP/1.1 %d " % code), got
    assert got.count(b"HTTP/1.1 ") == 1 and b"Connection: close" in got
    assert b"evil" not in got and b"xxx" not in got


def test_paths_are_not_files(page):
    c = page()
    for path in ["/../chasq.conf", "/..%2f..%2fetc/passwd", "//metrics", "/metrics/", "/metrics%20",
                 "/METRICS", "/debug", "/debug/pprof", "/exit"]:
        status, _, content = get(c, path)
        assert status == 404 and b"hostname" not in content and b"root:" not in content, path
    assert get(c, "/metric%73?x")[0] == 200


def test_names_of_others(page):
    """DNS rebinding: a name that was made to lead here is not ours."""
    c = page()
    for host in ["evil.test", f"evil.test:{c.http}", "localhost.evil.test", "127.0.0.1.evil.test"]:
        for path in PAGES + ["/nonsense"]:
            status, _, content = get(c, path, headers={"Host": host})
            assert status == 421 and b"evil" not in content
    for host in ["localhost", f"localhost:{c.http}", "127.0.0.1", "[::1]:80", f"{c.name}.test"]:
        assert get(c, headers={"Host": host})[0] == 200


def test_pipelined(page):
    got = raw(page(), HEAD + b"\r\n" + HEAD.replace(b"/metrics", b"/nonsense") + b"\r\n" +
              HEAD.replace(b"/metrics", b"/debug/queue") + b"Connection: close\r\n\r\n" + HEAD)
    assert re.findall(rb"HTTP/1.1 (...) ", got) == [b"200", b"404", b"200"]
    assert got.endswith(b"\r\n0\r\n\r\n")


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not there")
def test_curl_keeps_the_connection(page):
    c = page()
    urls = [f"http://127.0.0.1:{c.http}{p}" for p in PAGES * 3]
    r = subprocess.run(["curl", "-sv", "-o", "/dev/null", *sum((["-o", "/dev/null"] for _ in urls[1:]), []),
                        *urls], capture_output=True, timeout=30)
    log = r.stderr.decode()
    assert r.returncode == 0
    assert log.count("< HTTP/1.1 200 OK") == len(urls) and log.count("Connected to") == 1
    r = subprocess.run(["curl", "-s0", "-i", f"http://127.0.0.1:{c.http}/debug/queue"],
                       capture_output=True, timeout=30)
    assert b"Connection: close" in r.stdout and b"chunked" not in r.stdout
    assert r.stdout.endswith(b"length: 0\n\n")


# ---- slow and many ------------------------------------------------------------------------------


def test_slowloris(page):
    """100 clients that say a byte now and then: mail flows, and the page answers others and even
    them, since who says nothing gives way."""
    c = page()
    with contextlib.ExitStack() as stack:
        slow = []
        for i in range(100):
            s = stack.enter_context(socket.socket())
            s.setblocking(False)
            s.bind((f"127.0.0.{1 + i % 20}", 0))
            with contextlib.suppress(BlockingIOError):
                s.connect(("127.0.0.1", c.http))
            slow.append(s)

        def drip():
            for s in slow:
                with contextlib.suppress(OSError):
                    s.send(b"G")

        for i in range(5):
            drip()
            begin = time.monotonic()
            send(c.port, "a@b.test", ["user@here.test"], b"Subject: x\r\n\r\nx\r\n")
            assert time.monotonic() - begin < 3
            time.sleep(0.3)
        c.wait_messages("user", 5)
        drip()

        def answered():
            with contextlib.suppress(OSError, http.client.HTTPException):
                return get(c, "/metrics", source="127.0.0.77")[0] == 200

        harness.wait_for(answered, 30, "the page among slow clients")
    assert c.process.running()


def test_requests_have_their_time(page):
    c = page()
    with dial(c) as s:
        begin = time.monotonic()
        s.settimeout(1)
        got = b""
        while time.monotonic() - begin < 25 and b"408" not in got:
            with contextlib.suppress(OSError):
                s.send(b"G" if got == b"" and time.monotonic() - begin < 1.5 else b"x")
            try:
                more = s.recv(1000)
                if not more:
                    break
                got += more
            except TimeoutError:
                pass
        assert got.startswith(b"HTTP/1.1 408 ") and 8 < time.monotonic() - begin < 20


# ---- passwords ----------------------------------------------------------------------------------


def test_password(page):
    c = page("operator:correct horse")
    for path in PAGES + ["/nonsense"]:
        status, fields, content = get(c, path)
        assert status == 401 and fields["WWW-Authenticate"].startswith('Basic realm="chasq"')
        assert b"chasq.conf" not in content
        assert get(c, path, headers=basic("operator:wrong"))[0] == 401
    assert get(c, headers=basic("operator:correct horse"))[0] == 200
    for i in range(100):
        if get(c, headers=basic(f"operator:{i}"))[0] == 429:
            break
    assert 20 < i < 99
    assert get(c, headers=basic("operator:correct horse"))[0] == 429
    assert get(c, headers=basic("operator:correct horse"), source="127.0.0.2")[0] == 200
    assert "correct horse" not in c.log() and "monitor login failed peer=127.0.0.1" in c.log()


def test_password_file_is_secret(page):
    c = page("operator:secret")
    c.stop()
    (c.dir / "monitoring-password").chmod(0o644)
    r = c.run("-c", c.dir)
    assert r.returncode != 0 and b"open to all" in r.stderr + r.stdout
    (c.dir / "monitoring-password").chmod(0o600)
    (c.dir / "monitoring-password").write_text("nocolon\n")
    r = c.run("-c", c.dir)
    assert r.returncode != 0 and b"user:password" in r.stderr + r.stdout


def test_actions_need_password_token_and_origin(page):
    c = page()
    form = urllib.parse.urlencode({"do": "flush", "token": "0" * 32})
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    assert get(c, "/action", "POST", kind, form)[0] == 403
    c.stop()
    c = page("operator:secret")
    mine = {**kind, **basic("operator:secret")}
    assert get(c, "/action", "POST", kind, form)[0] == 401
    assert get(c, "/action", "POST", mine, form)[0] == 403
    assert get(c, "/action", "GET", mine)[0] == 405
    c.sendmail("-f", "from@here.test", "to@there.test", input=b"Subject: x\n\nx\n")
    content = get(c, "/queue", headers=mine)[2].decode()
    token = re.search(r'name="?token"? value="?([0-9a-f]{32})', content).group(1)
    form = urllib.parse.urlencode({"do": "flush", "token": token})
    for bad in [{"Origin": "http://evil.test"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}]:
        assert get(c, "/action", "POST", {**mine, **bad}, form)[0] == 403
    good = {"Origin": f"http://127.0.0.1:{c.http}", "Sec-Fetch-Site": "same-origin"}
    assert get(c, "/action", "POST", {**mine, **good}, form)[0] == 303
