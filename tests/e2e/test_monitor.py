"""The monitoring page in a real browser: hostile queues, actions by the mouse, both colours, on a desk and
on a phone."""

import base64
import html.parser
import itertools
import os
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request

import pytest

import browser as browsers
import harness
from conftest import main_is_fresh, special_build
from sink import Sink
from smtpclient import send

pytestmark = pytest.mark.skipif(browsers.missing() is not None, reason=str(browsers.missing()))

SHOTS = harness.TREE / "build/shots"
PASSWORD = "admin:not secret: <\"&"
PHONE, DESK = (360, 780), (1280, 900)
PAGES = ["/", "/queue", "/destinations", "/traces", "/config", "/about"]

BIDI = "\u202egpj.exe\u202c"
LATER = "421 4.7.1 <script>alert(9)</script> \"later\""
EVIL = [  # sender, recipients, header: what a page must only show
    ('"<script>alert(1)</script>"@evil.test', ["a@slow.test"], "Subject: </title><script>alert(2)</script>"),
    ('"\' onmouseover=alert(3) x=\'"@evil.test', ['"\\" autofocus onfocus=alert(4) \\""@slow.test'],
     "Subject: \"><img src=x onerror=alert(5)>"),
    (f"invoice{BIDI}@evil.test", ["b@slow.test"], f"Subject: {BIDI} \u2066x"),
    ("x" * 1024 + "@evil.test", ["y" * 1024 + "@slow.test", "z@slow.test", "w@slow.test"],
     "Subject: " + "long" * 300),
    ("\u05d3\u05d5\u05d0\u05e8@evil.test", ["\u0645\u062b\u0627\u0644@slow.test"], "Subject: \u05d0 (b) \u05d2"),
    ("&lt;b&gt;&amp;@evil.test", ["}{^~[|]%s%n@slow.test"], "Subject: {ID|x} %s%d \x1b[31mred\x07"),
    ("next\u0085line\u200b@evil.test", ["c@slow.test"], "X: \xff\xfe \ufdd0 \U000e0041"),
]


def spool(c, number, sender, rcpts, header="Subject: hello", age=3000, failure=""):
    """Puts a message into the queue as chasquid writes it. Before the start."""
    c.queue.mkdir(parents=True, exist_ok=True)
    ident = f"evil{number:07d}"
    text = f"ID: {harness.quote(ident)}\nfrom: {harness.quote(sender)}\n"
    for r in rcpts:
        text += f"To: {harness.quote(r)}\nrcpt: {{ address: {harness.quote(r)} type: EMAIL "
        text += f"original_address: {harness.quote(r)} last_failure_message: {harness.quote(failure)} }}\n"
    text += f"data: {harness.quote(header.encode('utf-8', 'surrogateescape') + b'%c%cbody%c' % (10, 10, 10))}\n"
    text += f"created_at_ts: {{ seconds: {int(time.time()) - age} }}\n"
    (c.queue / f"m:{ident}").write_text(text)
    return ident


class World:
    """A chasq whose destination slow.test says "later", bad.test "no" and good.test takes all."""

    def __init__(self, box, chasq, dnsmasq, program, fill=True):
        sinks = [Sink(address="127.0.0.2", script={"CONNECT": LATER})]
        port = sinks[0].port
        sinks += [Sink(address="127.0.0.3", port=port, script={"RCPT": "550 5.1.1 nobody here"}),
                  Sink(address="127.0.0.4", port=port)]
        names = ["slow.test", "bad.test", "good.test"]
        for s in sinks:
            box.on_stop(s.stop)
        dns = dnsmasq(mx={n: [(10, "mx." + n)] for n in names},
                      hosts={"mx." + n: [s.address] for n, s in zip(names, sinks)})
        self.http = harness.free_port()
        self.c = chasq(start=False, program=program, conf={
            "monitoring_address": f"127.0.0.1:{self.http}", "monitoring_password_file": "monitoring",
            "dns_servers": dns.server, "remote_smtp_port": port, "trusted_network": "127.0.0.0/8"},
            domains={"here.test": {"users": ["user", "sender"]}})
        (self.c.dir / "monitoring").write_text(PASSWORD + "\n")
        (self.c.dir / "monitoring").chmod(0o600)
        self.ids = [spool(self.c, i, *e, age=3000 - 60 * i) for i, e in enumerate(EVIL)] if fill else []
        self.c.start()
        user, password = PASSWORD.split(":", 1)
        self.base = f"http://127.0.0.1:{self.http}"
        self.login = f"http://{user}:{urllib.parse.quote(password, safe='')}@127.0.0.1:{self.http}"

    def get(self, path, data=None, **headers):
        """(status, headers, text) without a browser."""
        headers.setdefault("Authorization", "Basic " + base64.b64encode(PASSWORD.encode()).decode())
        request = urllib.request.Request(self.base + path, data=data, headers=headers)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _Stay)
        try:
            with opener.open(request, timeout=20) as r:
                return r.status, r.headers, r.read().decode()
        except urllib.error.HTTPError as e:
            return e.code, e.headers, e.read().decode()

    def tried(self):
        """Waits until all messages were tried."""
        harness.wait_for(lambda: all(i + " deferred" in self.c.log() for i in self.ids), 30,
                         lambda: "attempts\n" + self.c.log()[-3000:])


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args):
        return None


@pytest.fixture(scope="session")
def quick():
    """A chasq that takes a point of its charts each 200 ms."""
    return special_build("monitor", {"MONITOR_SAMPLE_MS": "200"})


@pytest.fixture
def world(box, chasq, dnsmasq, quick):
    return World(box, chasq, dnsmasq, quick)


@pytest.fixture(scope="module")
def chromium():
    box = harness.Sandbox("chromium")
    b = browsers.Browser(box)
    yield b
    b.close()
    box.stop()


@pytest.fixture
def page(world, chromium):
    p = chromium.page()
    p.look(*DESK)
    p.go(world.login + "/about")
    return p


def clean(page):
    assert page.troubles == [], page.troubles


# ---- hostile bytes ------------------------------------------------------------------------------


def test_hostile_queue_is_only_text(world, page):
    world.tried()
    page.go(world.base + "/queue")
    text = page.text()
    assert '"<script>alert(1)</script>"@evil.test' in text
    assert "\"' onmouseover=alert(3) x='\"@evil.test" in text
    assert "\\u{202E}gpj.exe\\u{202C}" in text and "\u202e" not in text
    assert "&lt;b&gt;&amp;@evil.test" in text and "}{^~[|]%s%n@slow.test" in text
    assert "<script>alert(9)</script> \"later\"" in text
    assert "next\\u{0085}line\\u{200B}@evil.test" in text
    assert "x" * 100 + "\u2026" in text and "x" * 101 not in text
    assert "and 1 more" in text
    for ident in world.ids:
        page.go(f"{world.base}/message/{ident}")
        assert page.eval("document.querySelectorAll('script,img,iframe,[onfocus],[onmouseover],[style]').length") == 0
        assert "\u202e" not in page.text() and ident in page.text()
    page.go(f"{world.base}/message/{world.ids[3]}")
    assert "x" * 1024 in page.text() and "y" * 1024 in page.text()
    page.go(f"{world.base}/message/{world.ids[0]}")
    assert "</title><script>alert(2)</script>" in page.text()
    for path in PAGES:
        page.go(world.base + path)
        assert page.eval("document.querySelectorAll('script,img,iframe,[style]').length") == 0
    clean(page)


def test_policy_would_stop_a_script(world, page):
    """That the checks above can fail: what the page does not allow is noticed."""
    page.go(world.base + "/queue")
    page.eval("document.body.insertAdjacentHTML('beforeend', '<img src=\"data:image/png;base64,AA\" "
              "onerror=\"alert(1)\">')")
    harness.wait_for(lambda: page.call("Runtime.enable") is not None and page.troubles, 10)
    assert "Content Security Policy" in page.troubles[0], page.troubles
    assert not any(t.startswith("dialog") for t in page.troubles)


def test_hostile_requests(world):
    for path in ["/queue?q=%3Cscript%3Ealert(1)%3C/script%3E", "/trace/%3Cscript%3Ealert(1)", "/message/%22%3E%3Cscript",
                 "/queue?after=%22%3E%3Cscript&q=%22%3E%3Cscript", "/traces?kind=%3Cscript", "/%3Cscript%3E",
                 "/queue?done=%3Cscript%3E"]:
        status, _, text = world.get(path)
        assert "<script" not in text and status in (200, 404), path
    assert world.get("/queue?q=" + "a" * 500)[0] == 200
    assert world.get("/message/")[0] == 404 and world.get("/nothing")[0] == 404


def test_headers_of_every_answer(world):
    for path in [*PAGES, "/style.css", "/icon.svg", "/metrics", "/debug/queue", "/nothing", "/message/x"]:
        for extra in ({}, {"Authorization": "x"}):
            _, h, _ = world.get(path, **extra)
            policy = dict(d.split(" ", 1) for d in h["Content-Security-Policy"].split("; "))
            assert policy == {"default-src": "'none'", "style-src": "'self'", "img-src": "'self'",
                              "form-action": "'self'", "frame-ancestors": "'none'", "base-uri": "'none'"}
            assert h["X-Content-Type-Options"] == "nosniff" and h["X-Frame-Options"] == "DENY"
            assert h["Referrer-Policy"] == "same-origin" and h["Cache-Control"] == "no-store"
            assert h["Cross-Origin-Resource-Policy"] == "same-origin"
    assert world.get("/", Authorization="x")[0] == 401
    status, h, _ = world.get("/queue", data=b"x=1")
    assert status == 405 and h["Allow"] == "GET, HEAD"
    status, h, _ = world.get("/action")
    assert status == 405 and h["Allow"] == "POST"


# ---- filter and pages ---------------------------------------------------------------------------


def test_filter(world, page):
    world.tried()
    page.go(world.base + "/queue")
    page.no_script()  # of the page; there is none
    page.type("input[name=q]", "ONMOUSEOVER")
    page.click("button", "Filter")
    rows = "[...document.querySelectorAll('tbody tr')].map(e=>e.innerText)"
    assert len(page.eval(rows)) == 1 and "onmouseover" in page.eval(rows)[0]
    assert page.eval("document.querySelector('input[name=q]').value") == "ONMOUSEOVER"
    for text, count in [("alert(9)", len(EVIL)), (world.ids[2], 1), ("\u05d3\u05d5\u05d0\u05e8", 1),
                        ("w@slow.test", 1), ("there is none", 0)]:
        page.go(world.base + "/queue?q=" + urllib.parse.quote(text))
        assert len(page.eval(rows)) == count, text
    assert "No message matches here" in page.text()
    page.click("a.button", "Show all")
    assert len(page.eval(rows)) == len(EVIL)
    clean(page)


def test_pages_of_a_long_queue(box, chasq, dnsmasq, quick):
    w = World(box, chasq, dnsmasq, quick, fill=False)
    w.c.stop()
    w.ids = [spool(w.c, i, f"s{i}@evil.test", [f"r{i}@slow.test"]) for i in range(130)]
    w.c.start()
    harness.wait_for(lambda: "Messages: 130" in w.get("/queue")[2], 20)
    seen, path = [], "/queue"
    while path:
        _, _, text = w.get(path)
        seen += re.findall(r'href="/message/(evil\d+)"', text)
        following = re.search(r'rel="next" href="([^"]+)"', text)
        path = following and following[1].replace("&amp;", "&")
    assert seen == w.ids


# ---- actions ------------------------------------------------------------------------------------


def test_actions(world, page):
    world.tried()
    ident = world.ids[4]
    page.go(f"{world.base}/message/{ident}")
    page.no_script()
    page.click("button", "Hold back")
    assert page.url() == f"{world.base}/message/{ident}?done=hold" and "Held back" in page.text()
    assert "held" in page.text()
    page.go(world.base + "/destinations")
    assert ident in page.text()
    page.click("button", "Release")
    assert "Released" in page.text()
    deferred = world.c.log().count(f"{ident} deferred")
    page.go(f"{world.base}/message/{ident}")
    harness.wait_for(lambda: "being delivered" not in world.get(f"/message/{ident}")[2], 20)
    page.click("button", "Try now")
    harness.wait_for(lambda: world.c.log().count(f"{ident} deferred") > deferred, 20)

    page.click("a", "Remove\u2026")
    assert (world.c.queue / f"m:{ident}").exists()
    page.click("a", "Keep it")
    page.click("a", "Remove\u2026")
    page.click("button", "Remove silently")
    assert page.url() == world.base + "/queue?done=remove" and "Its sender is not told" in page.text()
    harness.wait_for(lambda: not (world.c.queue / f"m:{ident}").exists(), 10)
    page.go(f"{world.base}/message/{ident}")
    assert "not in the queue" in page.text() and page.statuses[f"{world.base}/message/{ident}"] == 404
    page.troubles.clear()  # the browser notes the 404

    page.go(world.base + "/destinations")
    page.type("input:not([type=hidden])", "EVIL.Test")
    page.click("button", "Hold back")
    assert "evil.test" in page.text()
    page.go(world.base + "/queue")
    page.click("button", "Try all now")
    assert page.url() == world.base + "/queue?done=flush"
    clean(page)


def test_remove_with_bounce(box, world, page):
    send(world.c.port, "sender@here.test", ["d@slow.test"], b"Subject: s\r\n\r\nx\r\n")
    ident = harness.wait_for(lambda: re.search(r"(\S+) deferred from=sender@here.test", world.c.log()), 20)[1]
    page.go(f"{world.base}/remove/{ident}")
    page.click("button", "Remove and tell its sender")
    assert "Its sender gets a notification" in page.text()
    assert b"d@slow.test" in world.c.wait_messages("sender")[0]
    assert not (world.c.queue / f"m:{ident}").exists()
    clean(page)


def test_actions_need_the_token(world):
    ident = world.ids[1]
    page = world.get(f"/message/{ident}")[2]
    token = re.search(r'name="token" value="([0-9a-f]+)"', page)[1]

    def act(what, given, **headers):
        form = urllib.parse.urlencode({"do": what, "what": ident, "token": given}).encode()
        return world.get("/action", form, **headers)[0]

    assert act("remove", "") == 403 and act("remove", "0" * len(token)) == 403
    assert act("remove", token, Origin="http://evil.test") == 403
    assert act("remove", token, **{"Sec-Fetch-Site": "cross-site"}) == 403
    assert act("remove", token, Authorization="Basic eDp5") == 401
    assert act("nonsense", token) == 400
    assert (world.c.queue / f"m:{ident}").exists()
    assert act("hold", token, Origin=world.base) == 303
    status, h, _ = world.get("/action", urllib.parse.urlencode({"do": "flush", "token": token}).encode())
    assert status == 303 and h["Location"] == "/queue?done=flush"


def test_no_actions_without_a_password(chasq, quick):
    http = harness.free_port()
    c = chasq(conf={"monitoring_address": f"127.0.0.1:{http}"}, start=False, program=quick)
    ident = spool(c, 1, "a@evil.test", ["b@slow.test"])
    c.start()

    def get(path, data=None):
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
                f"http://127.0.0.1:{http}{path}", data, timeout=10) as r:
            return r.read().decode()

    for path in ["/queue", f"/message/{ident}", "/destinations"]:
        assert 'method="post"' not in get(path)
    with pytest.raises(urllib.error.HTTPError, match="403"):
        get("/action", b"do=remove&what=" + ident.encode())
    assert (c.queue / f"m:{ident}").exists()


def test_other_addresses_need_a_password(chasq, quick):
    c = chasq(start=False, program=quick, conf={"monitoring_address": "0.0.0.0:10001"})
    p = subprocess.run(c.argv(), capture_output=True, timeout=20)
    assert p.returncode == 1 and b"monitoring_password_file" in p.stderr, p.stderr


# ---- looks --------------------------------------------------------------------------------------


def busy(world):
    """Some traffic, so that there is something to look at."""
    for i in range(12):
        send(world.c.port, "sender@here.test", [f"u{i}@good.test", "user@here.test"], b"Subject: s\r\n\r\nx\r\n")
        if i % 3 == 0:
            send(world.c.port, f"list{i}@good.test", [f"v{i}@bad.test"], b"Subject: s\r\n\r\nx\r\n")
            send(world.c.port, f"list{i}@good.test", [f"w{i}@slow.test"], b"Subject: s\r\n\r\nx\r\n")
        time.sleep(0.3)
    world.tried()


# Whether any text has too little contrast on the ground behind it (WCAG 2.1 1.4.3).
CONTRAST = """(()=>{
 const lum=c=>{const [r,g,b]=c.map(v=>{v/=255;return v<=.03928?v/12.92:Math.pow((v+.055)/1.055,2.4)});
   return .2126*r+.7152*g+.0722*b};
 const parse=s=>{const m=s.match(/[\\d.]+/g).map(Number);return {rgb:m.slice(0,3),a:m.length>3?m[3]:1}};
 const ground=e=>{for(;e;e=e.parentElement){const c=parse(getComputedStyle(e).backgroundColor);
   if(c.a===1)return c.rgb}return [255,255,255]};
 const bad=[];let least=99;
 for(const e of document.querySelectorAll('body *')){
   if(![...e.childNodes].some(n=>n.nodeType===3&&n.data.trim())&&!e.matches('input'))continue;
   if(!e.getClientRects().length||e.closest('svg'))continue;
   const a=lum(parse(getComputedStyle(e).color).rgb),b=lum(ground(e));
   const c=(Math.max(a,b)+.05)/(Math.min(a,b)+.05);least=Math.min(least,c);
   if(c<4.5)bad.push(e.tagName+'.'+e.className+' '+c.toFixed(2)+' '+e.textContent.slice(0,30))}
 return [least,bad]})()"""
OVERFLOW = """[document.documentElement.scrollWidth,
 [...document.querySelectorAll('body *:not(.skip)')].filter(e=>e.getBoundingClientRect().right>innerWidth+1)
  .map(e=>e.tagName+'.'+e.className).slice(0,5)]"""


def test_looks(world, chromium):
    """Readable in both colours and sizes; no page is wider than the screen. The pictures are for people."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    busy(world)
    page = chromium.page()
    page.go(world.login + "/about")
    names = dict(zip(PAGES, ["index", "queue", "destinations", "traces", "config", "about"]))
    names[f"/message/{world.ids[1]}"] = "message"
    names[f"/message/{world.ids[3]}"] = "message-long"
    names[f"/remove/{world.ids[1]}"] = "remove"
    names[f"/trace/{world.ids[1]}"] = "trace"
    names["/nothing"] = "missing"
    worst = 99
    minutes = [int(n) for n in re.findall(r"In the last (\d+) minutes", world.get("/")[2])]
    assert len(minutes) == 6 and len(set(minutes)) == 1 and minutes[0] > 5, minutes
    for (path, name), (size, dark) in itertools.product(names.items(),
                                                        [(DESK, 0), (DESK, 1), (PHONE, 0), (PHONE, 1)]):
        page.look(*size, dark=bool(dark))
        page.go(world.base + path)
        width, wide = page.eval(OVERFLOW)
        assert width <= size[0] and wide == [], (path, size, width, wide)
        least, bad = page.eval(CONTRAST)
        assert bad == [], (path, dark, bad)
        worst = min(worst, least)
        kind = ("phone" if size == PHONE else "desk") + ("-dark" if dark else "")
        page.shot(SHOTS / f"{name}-{kind}.png")
    assert 4.5 <= worst < 21
    page.troubles = [t for t in page.troubles if "/nothing" not in t]
    clean(page)


def test_reading_aloud(world, page):
    """What a person who does not see the page needs: language, one heading, labels, titles of their own."""
    world.tried()
    titles = set()
    for path in [*PAGES, f"/message/{world.ids[0]}", f"/remove/{world.ids[0]}"]:
        page.go(world.base + path)
        assert page.eval("document.documentElement.lang") == "en"
        assert page.eval("document.querySelectorAll('h1').length") == 1, path
        assert page.eval("document.querySelectorAll('main').length") == 1
        assert page.eval("[...document.querySelectorAll('input:not([type=hidden])')].every(e=>e.labels.length)")
        assert page.eval("[...document.querySelectorAll('th')].every(e=>e.scope==='col')")
        assert page.eval("[...document.querySelectorAll('svg')].every(e=>e.querySelector('title')&&"
                         "document.getElementById(e.getAttribute('aria-labelledby').split(' ')[1]).textContent)")
        titles.add(page.eval("document.title"))
        # The focus can be seen.
        page.eval("document.querySelector('nav a').focus({focusVisible:true})")
        assert page.eval("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert len(titles) == len(PAGES) + 2 - 0, titles


class Checker(html.parser.HTMLParser):
    """Elements closed in order, attributes once, ids once; what html.parser lets us see of validity."""

    VOID = {"meta", "link", "br", "input", "path"}
    OPTIONAL = {"li"}

    def __init__(self):
        super().__init__()
        self.open, self.faults, self.ids = [], [], set()

    def handle_starttag(self, tag, attrs):
        if tag == "li" and self.open[-1:] == ["li"]:
            self.open.pop()
        names = [n for n, _ in attrs]
        if len(names) != len(set(names)):
            self.faults.append(f"attributes twice: {tag} {attrs}")
        for n, v in attrs:
            if n == "id" and v in self.ids:
                self.faults.append(f"id twice: {v}")
            if n == "id":
                self.ids.add(v)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        if tag == "ul" and self.open[-1:] == ["li"]:
            self.open.pop()
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> at {self.getpos()}")


def test_markup(world):
    world.tried()
    for path in [*PAGES, *(f"/message/{i}" for i in world.ids), f"/remove/{world.ids[0]}", "/message/none"]:
        _, h, text = world.get(path)
        checker = Checker()
        checker.feed(text)
        assert checker.faults == [] and checker.open == [], (path, checker.faults, checker.open)
        assert text.startswith("<!DOCTYPE html>\n") and h["Content-Type"] == "text/html; charset=utf-8"
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text), path


# ---- size ---------------------------------------------------------------------------------------

# Bytes on amd64: what it costs now, and little more.
SIZE_MAX = 50600


def test_size():
    """What the page costs with its server, dumps and metrics: a stripped program with it, less one without. Code and
    data, for the size of a file is rounded to pages."""
    if os.uname().machine != "x86_64":
        pytest.skip("the bound is for amd64")
    cost = stripped_size("page", "") - stripped_size("nopage", "-DWITH_MONITOR=0")
    assert 30000 < cost < SIZE_MAX, f"{cost} bytes"


THUMB = "arm-linux-gnueabihf-gcc"
PAGE_ON_A_BOARD_MAX = 40960


@pytest.mark.skipif(shutil.which(THUMB) is None, reason="no cross compiler for armhf")
def test_size_on_a_board(tmp_path):
    """The page and its HTTP server in the instructions of the boards it is for (Thumb-2): under 40 KB."""
    headers = tmp_path / "include"
    headers.mkdir()
    for name in ("mbedtls", "psa", "idn2.h", *(f for f in os.listdir("/usr/include") if f.startswith("ares"))):
        (headers / name).symlink_to(f"/usr/include/{name}")
    objects = []
    for source in sorted(harness.TREE.glob("monitor*.c")) + sorted(harness.TREE.glob("httpd*.c")):
        objects.append(tmp_path / (source.stem + ".o"))
        subprocess.run([THUMB, "-std=c11", "-D_GNU_SOURCE", "-D_FILE_OFFSET_BITS=64", '-DCHASQ_VERSION="0"', "-mthumb",
                        f"-I{harness.TREE}", f"-I{headers}", "-Os", "-fPIE", "-fstack-protector-strong",
                        "-fno-asynchronous-unwind-tables", "-c", source, "-o", objects[-1]], check=True)
    out = subprocess.run(["size", "-t", *objects], capture_output=True, text=True, check=True).stdout
    text, data = out.splitlines()[-1].split()[:2]
    assert 20000 < int(text) + int(data) < PAGE_ON_A_BOARD_MAX, out


def stripped_size(name, options):
    """Code and data of a program with the Makefile's own flags. If the main build has them, it is the one with all
    options, and what the options of another do not concern is taken from it."""
    main = harness.TREE / "build/main"
    same = main_is_fresh() and re.search(" -Os -g( -Werror)?( -Oz)?$", (main / "flags").read_text())
    if same and not options:
        build = main
    else:
        build = harness.TREE / "build" / name
        env = {k: v for k, v in os.environ.items()
               if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "OPTIONS", "CFLAGS")}
        subprocess.run(["make", "-s", "-j2", "-C", harness.TREE, f"BUILD=build/{name}", f"OPTIONS={options}",
                        "OVER=build/main" if same else "OVER=", f"build/{name}/chasq"], check=True, env=env,
                       stdin=subprocess.DEVNULL)
    subprocess.run(["strip", "-o", build / "stripped", build / "chasq"], check=True)
    out = subprocess.run(["size", build / "stripped"], capture_output=True, text=True, check=True).stdout
    text, data = out.splitlines()[1].split()[:2]
    return int(text) + int(data)


def test_without_the_page(tmp_path):
    """A program without the page says so when it is asked for one, and lists the option."""
    stripped_size("nopage", "-DWITH_MONITOR=0")
    program = harness.TREE / "build/nopage/chasq"
    assert "WITH_MONITOR=0" in subprocess.run([program, "-V"], capture_output=True, text=True, check=True).stdout
    (tmp_path / "chasq.conf").write_text('monitoring_address: "127.0.0.1:1100"\n')
    out = subprocess.run([program, "-c", tmp_path, "-t"], capture_output=True, text=True)
    assert out.returncode != 0 and "monitoring_address" in out.stderr and "built without" in out.stderr, out
