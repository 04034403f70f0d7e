"""chasq dialog: a probe of mail servers, real ones and hostile ones."""

import os
import re
import socket
import threading
import time

import pytest

import certs
import conftest
import harness
import peers
from sink import Bytes, Drop, Hang, Mute

OK, NOUSER, NOHOST, UNAVAILABLE, TEMPFAIL, PROTOCOL, USAGE, CONFIG = 0, 67, 68, 69, 75, 76, 64, 78


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    d = tmp_path_factory.mktemp("pki")
    ca = certs.make_ca(d)
    return {
        "ca": ca,
        "good": certs.make_cert(d, ["mx.test", "127.0.0.1"], ca),
        "rsa": certs.make_cert(d, ["mx.test"], ca, key="rsa"),
        "other": certs.make_cert(d, ["other.test"], ca),
        "expired": certs.make_cert(d, ["mx.test"], ca, start=-60, days=30),
        "future": certs.make_cert(d, ["mx.test"], ca, start=30),
        "self": certs.make_cert(d, ["mx.test"]),
    }


@pytest.fixture
def dialog(chasq, pki):
    """Runs dialog with the configuration of a chasq that is not started. Returns (exit code, text)."""

    def run(*args, conf=None, env=None, timeout=60):
        c = chasq("probe" + os.urandom(4).hex(), start=False,
                  conf={"tls_roots": str(pki["ca"].pem), "hostname": "me.test", **(conf or {})})
        done = c.run("dialog", "-C", c.dir, *args, timeout=timeout, env=env)
        text = (done.stdout + done.stderr).decode()
        assert not harness.SANITIZER_REPORT.search(text), text
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text), repr(text)
        print(text)
        return done.returncode, text

    return run


def lines(text):
    return [line.strip() for line in text.splitlines()]


def test_plain(dialog, sink):
    s = sink()
    code, text = dialog(f"127.0.0.1:{s.port}")
    assert code == OK
    assert [c.split()[0] for c in s.commands()] == ["EHLO", "QUIT"]
    assert "> EHLO me.test" in lines(text) and "> QUIT" in lines(text)
    assert any(line.startswith("< 250-") for line in lines(text))
    assert "does not offer STARTTLS" in text and "PLAIN: mail would go out unencrypted" in text


@pytest.mark.parametrize("cert, said, level", [
    ("good", "yes: by an authority we trust, for mx.test", "TLS_SECURE"),
    ("rsa", "yes: by an authority we trust, for mx.test", "TLS_SECURE"),
    ("other", "no: the certificate is for another name", "TLS_INSECURE"),
    ("expired", "no: the certificate is expired", "TLS_INSECURE"),
    ("future", "no: the certificate is not valid yet", "TLS_INSECURE"),
    ("self", "no: the certificate is self-signed", "TLS_INSECURE"),
])
@pytest.mark.parametrize("implicit", [False, True])
def test_certificates(dialog, sink, pki, cert, said, level, implicit):
    s = sink(cert=pki[cert], implicit=implicit)
    code, text = dialog(f"127.0.0.1:{s.port}", "-s", "mx.test", "-t", "tls" if implicit else "starttls")
    assert code == OK
    assert said in text and f"{level}: encrypted" in text
    # Ready to be pasted into smarthost { fingerprint }.
    assert re.search(r"fingerprint\s+" + pki[cert].fingerprint() + "$", text, re.M)
    assert ("RSA 2048 bits" if cert == "rsa" else "EC 256 bits") in text
    assert "protocol     TLSv1." in text
    days = {"expired": "EXPIRED 30 days ago", "future": "NOT VALID YET"}.get(cert, "(89|90) days left")
    assert re.search(r"valid        20\d\d-\d\d-\d\d to 20\d\d-\d\d-\d\d, " + days + "$", text, re.M)
    assert [c.split()[0] for c in s.commands()].count("EHLO") == (1 if implicit else 2)
    if cert != "self":
        assert "issued by    CN=Test Authority" in text or "issued by    O=Test, CN=Test Authority" in text


def test_without_tls_though_offered(dialog, sink, pki):
    s = sink(cert=pki["good"])
    code, text = dialog(f"127.0.0.1:{s.port}", "-t", "none")
    assert code == OK and "TLS was not begun" in text and "PLAIN" in text
    assert "STARTTLS" not in s.commands()


def test_address_in_certificate(dialog, sink, pki):
    s = sink(cert=pki["good"])
    code, text = dialog(f"127.0.0.1:{s.port}")
    assert code == OK and "TLS_SECURE" in text and "names        mx.test, 127.0.0.1" in text


@pytest.mark.parametrize("reply, code", [(None, OK), ("550 5.1.1 no such user", NOUSER),
                                         ("450 4.2.0 later", TEMPFAIL)])
def test_rcpt(dialog, sink, pki, reply, code):
    s = sink(cert=pki["good"], script={"RCPT": reply} if reply else {})
    got, text = dialog(f"127.0.0.1:{s.port}", "--rcpt", "Some.One@bücher.test")
    assert got == code
    assert s.commands()[-3:] == ["MAIL FROM:<>", "RCPT TO:<Some.One@xn--bcher-kva.test>", "QUIT"]
    assert s.messages == []
    if reply:
        assert reply[4:] in text or reply.split(" ", 2)[2] in text


def test_first_trouble_counts(dialog, sink):
    s = sink(script={"RCPT": "550 5.1.1 nobody", "QUIT": Bytes(b"what?\r\n")})
    code, text = dialog(f"127.0.0.1:{s.port}", "--rcpt", "a@b.test")
    assert code == NOUSER and "RCPT TO was answered with 550" in text


def test_mx(dialog, sink, dnsd):
    s = sink(address="127.0.0.5")
    zone = dnsd("many.test MX 10 dead.test\nmany.test MX 20 alive.test\ndead.test A 127.0.0.6\n"
                "alive.test A 127.0.0.5\nnull.test MX 0 .\nbare.test A 127.0.0.5\n")
    conf = {"dns_servers": zone.server}
    code, text = dialog("--mx", f"many.test:{s.port}", conf=conf)
    assert code == OK
    assert "10 dead.test" in lines(text) and "20 alive.test" in lines(text)
    assert text.index("Connection refused") < text.index("> EHLO")
    code, text = dialog("--mx", "null.test", conf=conf)
    assert code == NOHOST and "takes no mail at all" in text
    code, text = dialog("--mx", f"bare.test:{s.port}", conf=conf)
    assert code == OK and "has no MX record" in text
    code, text = dialog("--mx", "none.test", conf=conf)
    assert code == NOHOST and "no such" in text
    code, text = dialog("-6", f"bare.test:{s.port}", conf=conf)
    assert code == NOHOST and "has no address of IPv6" in text


def test_dane(dialog, sink, pki, dnsd):
    s = sink(cert=pki["self"])
    zone = (f"mx.test A 127.0.0.1\nsecure mx.test\n_25._tcp.mx.test TLSA 3 0 1 {'00' * 32}\n"
            f"_{s.port}._tcp.mx.test TLSA 3 0 1 %s\n")
    for digest, said, level in ((pki["self"].fingerprint(), "the one that DNS promises", "TLS_SECURE"),
                                ("11" * 32, "", "TLS_INSECURE")):
        server = dnsd(zone % digest).server
        code, text = dialog(f"mx.test:{s.port}", conf={"dns_servers": server, "dnssec_resolver": True})
        assert code == OK and said in text and level + ":" in text and "\n  DANE " in text


def test_exim(dialog, exim):
    e = exim()
    code, text = dialog(f"127.0.0.1:{e.port}", "--rcpt", "a@b.test")
    assert code == OK and "< 220 exim.test ESMTP Exim" in text and "> RCPT TO:<a@b.test>" in text
    assert e.messages() == []


@pytest.mark.skipif(os.getuid() != 0, reason="Postfix needs root")
def test_postfix(dialog, box, pki):
    p = peers.Postfix(box, cert=pki["good"])
    code, text = dialog(f"127.0.0.1:{p.port}", "-s", "mx.test")
    assert code == OK and "TLS_SECURE" in text and "TLSv1." in text
    code, text = dialog(f"127.0.0.1:{p.tls_port}", "-s", "mx.test", "-t", "tls")
    assert code == OK and "TLS_SECURE" in text


def test_own_server(dialog, chasq, pki):
    c = chasq(start=False)
    pki["good"].install(c.dir / "certs", "mx.test")
    c.start()
    code, text = dialog(f"127.0.0.1:{c.port}", "-s", "mx.test")
    assert code == OK and "TLS_SECURE" in text


# ---- what does not go well ----------------------------------------------------------------------


def test_nobody_there(dialog):
    code, text = dialog(f"127.0.0.1:{harness.free_port()}")
    assert code == UNAVAILABLE and "Connection refused" in text


def test_refused_greeting(dialog, sink):
    s = sink(script={"CONNECT": "554 5.7.1 go away"})
    code, text = dialog(f"127.0.0.1:{s.port}")
    assert code == UNAVAILABLE and "< 554 5.7.1 go away" in text


def test_starttls_fails(dialog, sink, pki):
    s = sink(cert=pki["good"], script={"STARTTLS": "454 4.7.0 not now"})
    code, text = dialog(f"127.0.0.1:{s.port}")
    assert code == TEMPFAIL and "STARTTLS was answered with 454" in text
    s = sink(cert=pki["good"], script={"HANDSHAKE": Bytes(b"250 what?\r\n" * 50)})
    code, text = dialog(f"127.0.0.1:{s.port}")
    assert code == PROTOCOL and "the TLS handshake: " in text and "level" not in text
    # A plain port asked for TLS at once.
    s = sink()
    code, text = dialog(f"127.0.0.1:{s.port}", "-t", "tls")
    assert code == PROTOCOL and "the TLS handshake: " in text


HOSTILE = [
    (b"220 \x1b[31mred\x07\x00\x9b2J\xe2\x80\r\n250 x\r\n", OK),
    (b"220 ok\x08\x08\x08\rforged\r\n", None),
    (b"A" * 1000000, PROTOCOL),
    (b"220 " + b"A" * 1000000, PROTOCOL),
    (b"220-x\r\n" * 100000, PROTOCOL),
    (b"220-x\r\n221 y\r\n", PROTOCOL),
    (b"HTTP/1.1 400 Bad Request\r\n\r\n", PROTOCOL),
    (b"\r\n", PROTOCOL),
    (b"", PROTOCOL),
]


class Blurt:
    """Sends some bytes to whoever comes, and closes."""

    def __init__(self, box, data):
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]
        self.data = data
        box.on_stop(self.sock.close)
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        try:
            peer, _ = self.sock.accept()
            with peer:
                peer.sendall(self.data)
                peer.settimeout(5)
                while peer.recv(4096):
                    peer.sendall(b"250 \x1b]0;owned\x07 \xff\xfe ok\r\n")
        except OSError:
            pass


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_hostile(dialog, box, number):
    data, code = HOSTILE[number]
    if data == b"":
        s = socket.create_server(("127.0.0.1", 0))
        port = s.getsockname()[1]
        box.on_stop(s.close)
        threading.Thread(target=lambda: s.accept()[0].close(), daemon=True).start()
    else:
        port = Blurt(box, data).port
    # The fixture refuses any control character in what is shown.
    got, text = dialog(f"127.0.0.1:{port}", timeout=40)
    assert code is None or got == code
    assert len(text) < 300000 and max(map(len, text.splitlines())) < 700


def test_silence(sink, pki, chasq):
    """Each step has its time."""
    # The same as in test_check.py, so that it is built once.
    program = conftest.special_build("probe", {"CLI_PROBE_MS": "1000", "CLI_CHECK_MS": "3000"})
    for script, where in (({"CONNECT": Mute()}, "the connection"), ({"EHLO": Mute()}, "EHLO"),
                          ({"HANDSHAKE": Hang(5)}, "the TLS handshake")):
        s = sink(cert=pki["good"], script=script)
        c = chasq("p" + os.urandom(3).hex(), start=False, program=program)
        begun = time.monotonic()
        done = c.run("dialog", "-C", c.dir, f"127.0.0.1:{s.port}", timeout=30)
        assert done.returncode == PROTOCOL
        assert where + ": no answer in time" in done.stdout.decode()
        assert time.monotonic() - begun < 8


def test_slow_but_well(dialog, sink):
    s = sink(script={"EHLO": Hang(1)})
    code, _ = dialog(f"127.0.0.1:{s.port}")
    assert code == OK
    s = sink(script={"QUIT": Drop()})
    code, _ = dialog(f"127.0.0.1:{s.port}")
    assert code == OK


@pytest.mark.parametrize("args", [[], ["a", "b"], ["-t", "ssl", "h"], ["-x", "h"], ["h:0"], ["h:99999"],
                                  ["-s", "a b", "h"], ["--rcpt", "nobody", "h"], ["--rcpt"],
                                  ["--rcpt", "a\r\nDATA@b.test", "h"], ["a\nb"], ["-C"]])
def test_usage(chasq, args):
    c = chasq(start=False)
    done = c.run("dialog", *args)
    assert done.returncode == USAGE and b"usage: chasq dialog" in done.stderr and done.stdout == b""


def test_configuration(chasq, sink):
    s = sink()
    c = chasq(start=False)
    (c.dir / "chasq.conf").write_text("nonsense\n")
    done = c.run("dialog", "-C", c.dir, f"127.0.0.1:{s.port}")
    assert done.returncode == CONFIG and b"chasq.conf:1" in done.stderr
    assert c.run("dialog", "--help").returncode == OK
