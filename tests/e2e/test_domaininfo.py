"""chasq domaininfo: the operator's commands on a running server, over files that chasquid made."""

import os
import re
import subprocess

import pytest

import harness

OK, USAGE, UNAVAILABLE, TEMPFAIL, NOPERM = 0, 64, 69, 75, 77

FILES = {
    # As chasquid writes them.
    "s:srv-b": 'name:  "srv-b"\noutgoing_sec_level:  TLS_SECURE\n',
    "s:plain.test": 'name: "plain.test"\n',
    "s:%C3%B1and%C3%BA.test": 'name: "\u00f1and\u00fa.test"\nincoming_sec_level: TLS_CLIENT\n',
    "s:xn--e1aybc.test": 'name: "xn--e1aybc.test"\noutgoing_sec_level: TLS_INSECURE\n',
    # Made of what a sender wrote.
    "s:Example.COM": 'name: "Example.COM"\nincoming_sec_level: TLS_CLIENT\n',
    "s:example.com": 'name: "example.com"\noutgoing_sec_level: TLS_SECURE\n',
    # Of no use.
    "s:torn.test": 'name: "torn.te',
    "s:swapped.test": 'name: "srv-b"\n',
    "s:..%2F..%2Fetc": 'name: "../../etc"\n',
    "README": "hello\n",
}


@pytest.fixture
def server(box):
    c = harness.Chasq(box)
    directory = c.data / "domaininfo"
    directory.mkdir(parents=True)
    for name, content in FILES.items():
        (directory / name).write_text(content)
    (directory / "s:link.test").symlink_to("/dev/zero")
    os.mkfifo(directory / "s:fifo.test")
    c.start()
    c.files = directory
    return c


@pytest.fixture
def tool(server):
    def run(*args, code=OK, **kwargs):
        result = subprocess.run([server.program, "domaininfo", *args, "-C", server.dir], text=True,
                                capture_output=True, timeout=60, **kwargs)
        assert result.returncode == code, (result.returncode, result.stdout, result.stderr)
        return result.stdout if code == OK else result.stderr

    return run


def rows(text):
    lines = [re.split(r"  +", line) for line in text.splitlines()]
    assert lines[0] == ["DOMAIN", "INCOMING", "OUTGOING", "LAST SEEN"]
    return lines[1:]


def test_list_is_sorted_and_in_columns(server, tool):
    text = tool()
    assert text == tool("list")
    assert rows(text) == [
        ["example.com", "TLS_CLIENT", "TLS_SECURE", "-"],
        ["plain.test", "PLAIN", "PLAIN", "-"],
        ["srv-b", "PLAIN", "TLS_SECURE", "-"],
        ["torn.test", "TLS_CLIENT", "TLS_SECURE", "-"],
        ["\u00f1and\u00fa.test", "TLS_CLIENT", "PLAIN", "-"],
        ["\u0442\u0435\u0441\u0442.test", "PLAIN", "TLS_INSECURE", "-"],
    ]
    lines = text.splitlines()
    assert len({re.search("(INCOMING|TLS_CLIENT|PLAIN)", line).start() for line in lines}) == 1
    log = server.log()
    assert "domaininfo damaged" in log and "torn.test" in log and "chasq domaininfo forget" in log
    assert "another domain's" in log and "no regular file" in log


@pytest.mark.parametrize("spelling", [
    "\u00f1and\u00fa.test", "\u00d1AND\u00da.Test.", "xn--and-6ma2c.test", "XN--AND-6MA2C.test",
    "n\u0303andu\u0301.test"])
def test_every_spelling_is_one_domain(server, tool, spelling):
    text = tool("show", spelling)
    assert text == ("domain     \u00f1and\u00fa.test\n"
                    "incoming   TLS_CLIENT\n           last seen -\n"
                    "outgoing   PLAIN\n           last seen -\n")
    assert "forgotten  \u00f1and\u00fa.test" in tool("forget", spelling)
    assert not (server.files / "s:%C3%B1and%C3%BA.test").exists()
    assert "not known" in tool("show", spelling, code=UNAVAILABLE)


def test_forgetting_removes_all_spellings_and_lasts(server, tool):
    tool("forget", "EXAMPLE.com")
    tool("forget", "torn.test")
    assert "not known" in tool("forget", "example.com", code=UNAVAILABLE)
    left = {p.name for p in server.files.iterdir()}
    assert not {"s:Example.COM", "s:example.com", "s:torn.test"} & left
    assert {"README", "s:swapped.test", "s:link.test", "s:fifo.test", "s:srv-b"} <= left
    assert "domaininfo forgotten" in server.log()
    server.stop()
    server.start()
    names = [row[0] for row in rows(tool())]
    assert "srv-b" in names and "example.com" not in names and "torn.test" not in names


def test_a_file_that_names_another_domain_can_be_removed(server, tool):
    tool("forget", "swapped.test")
    assert not (server.files / "s:swapped.test").exists()
    assert "TLS_SECURE" in tool("show", "srv-b")


def test_what_is_no_domain(server, tool):
    for name in ("../../etc", "a/b", "-", "x" * 64 + ".test", "a..b", "%2e", "a\tb"):
        code = USAGE if name == "a\tb" else UNAVAILABLE
        text = tool("show", name, code=code)
        assert "not a domain" in text or code == USAGE
    for name in ("", "a b", "a\nFLUSH", "x" * 600):
        tool("forget", name, code=USAGE)
    tool("remove", "srv-b", code=USAGE)
    assert rows(tool())[2][0] == "srv-b"


def test_a_long_list(server, tool):
    server.stop()
    for i in range(4200):
        (server.files / f"s:d{i:05}.test").write_text(f'name: "d{i:05}.test" outgoing_sec_level: TLS_SECURE')
    server.start()
    names = [row[0] for row in rows(tool())]
    assert len(names) == 4096 and names == sorted(names)
    assert "the weakest are not remembered" in server.log()


def test_only_root_and_the_daemon_may_ask(server, tool):
    if os.geteuid() != 0:
        pytest.skip("needs root")
    for args in (["list"], ["show", "srv-b"], ["forget", "srv-b"]):
        assert "not allowed" in tool(*args, code=NOPERM, user=65534, group=65534)
    assert "TLS_SECURE" in tool("show", "srv-b")


def test_without_a_server(server, tool):
    assert "usage: chasq domaininfo" in subprocess.run(
        [server.program, "domaininfo", "--help"], text=True, capture_output=True, check=True).stdout
    server.stop()
    assert "not running" in tool("list", code=TEMPFAIL)
