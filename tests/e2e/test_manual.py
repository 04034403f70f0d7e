"""The manual says what is so: its keys, commands, links, examples and error texts exist.

In docs/book a fence says what it holds: ```chasq.conf, ```aliases, ```uci (OpenWrt's /etc/config/chasq), ```sh.
"""

import os
import re
import stat
import subprocess

import pytest

from harness import TREE, binary
import certs
import peers

BOOK = sorted((TREE / "docs/book").glob("*.md"))
MARKDOWN = [*BOOK, *sorted((TREE / "docs").glob("*.md")), *sorted(TREE.glob("*.md")),
            *sorted((TREE / "packaging").rglob("*.md"))]
MAN = sorted((TREE / "man").iterdir())
SOURCES = {p.name: p.read_text() for p in [*TREE.glob("*.c"), *TREE.glob("*.h")]}
# Not keys, though they look like some: labels, fields, words of formats.
OTHER_WORDS = {
    "basic_auth", "net_bind_service", "recipients_left", "created_at_ts", "crc32",
}

# What it says that looks like a command.
RUNNING = "chasq is not running", "chasq is already running"
FENCE = re.compile(r"^```([\w.]*)\n(.*?)^```$", re.M | re.S)


def conf_keys():
    table = SOURCES["conf_keys.c"].split("const struct conf_slot")[0]
    named = re.findall(r'KEY_(?:FIELD|LIST|BLOCK)\(.*?"([a-z_]+)"\)', table, re.S)
    return set(named) | set(re.findall(r'\.name = "([a-z_]+)"', table))


def block_keys():
    """Keys within smarthost and masquerade."""
    return set(re.findall(r'\.name = "([a-z_]+)"', SOURCES["conf_smarthost.c"]))


def prose(text):
    return FENCE.sub("", text)


def code_words(text):
    """Words in backticks outside fences that look like a key: lower case with underscores."""
    spans = re.findall(r"`([^`\n]+)`", prose(text))
    return {w for s in spans for w in re.findall(r"(?<![\w./%<$-])[a-z]+(?:_[a-z0-9]+)+(?![\w%(])", s)}


def ids(paths):
    return [str(p.relative_to(TREE)) for p in paths]


def blocks(kind):
    found = []
    for path in BOOK:
        for i, (info, text) in enumerate(FENCE.findall(path.read_text())):
            if info == kind:
                found.append(pytest.param(text, id=f"{path.stem}-{i}"))
    return found


def test_the_tables_of_keys_are_found():
    enum = re.search(r"enum conf_key \{(.*?)\bKEYS\b", SOURCES["conf_keys.h"], re.S).group(1)
    assert len(conf_keys()) == len(set(re.findall(r"\bKEY_[A-Z_]+\b", enum)))
    assert {"hostname", "smarthost", "local_line_ends", "haproxy_incoming", "control_users"} <= conf_keys()
    assert {"address", "password_file", "from", "to"} <= block_keys()


def test_chasq_conf_5_has_every_key_and_no_other():
    text = (TREE / "man/chasq.conf.5").read_text()
    keys = text.split(".Sh KEYS")[1].split(".Sh ")[0]
    items = {w for line in re.findall(r"^\.It Cm (.*)$", keys, re.M) for w in re.findall(r"[a-z_]+", line)}
    assert items == conf_keys()


# Names of metrics look like keys; test_metrics.py has an eye on those.
KEY_PAGES = [p for p in MAN if p.name != "chasq-metrics.7"]


@pytest.mark.parametrize("path", KEY_PAGES, ids=ids(KEY_PAGES))
def test_keys_named_in_man_pages_exist(path):
    words = {
        w
        for line in re.findall(r"^\.(?:It )?(?:Cm|Ic) (.*)$", path.read_text(), re.M)
        for w in re.findall(r"[a-z]+(?:_[a-z]+)+", line)
    }
    assert words <= conf_keys() | block_keys() | OTHER_WORDS, words - conf_keys() - block_keys()


@pytest.mark.parametrize("path", BOOK, ids=ids(BOOK))
def test_keys_named_in_the_book_exist(path):
    text = path.read_text()
    if path.stem == "from-postfix-openwrt":
        text = re.sub(r"^\| `[a-z_`, ]+ \|", "|", text, flags=re.M)
        known = postfix_parameters()
        for cell in re.findall(r"^\| (`[a-z_`, ]+) \|", path.read_text(), re.M):
            for word in re.findall(r"[a-z]+(?:_[a-z0-9]+)+", cell):
                assert word.lower() in known, f"Postfix knows no {word}"
    words = code_words(text)
    words = {w for w in words if not w.startswith(("chasq_", "chasquid_"))}
    unknown = words - conf_keys() - block_keys() - OTHER_WORDS
    assert not unknown - {"sasl_passwd", "fwd_from", "receive_only", "config_dir", "config_overrides", "reload_config"}


def postfix_parameters():
    done = subprocess.run([peers.program("usr/sbin/postconf"), "-d"], capture_output=True, text=True,
                          env={**os.environ, **peers.library_env()}, timeout=60)
    names = {line.split(" = ")[0].split(" =")[0].strip() for line in done.stdout.splitlines()}
    assert len(names) > 500, done.stderr
    return names


def subcommands():
    done = subprocess.run([binary(), "help"], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0
    return set(re.findall(r"^  ([a-z]+) ", done.stdout, re.M))


def test_chasq_8_has_every_subcommand():
    text = (TREE / "man/chasq.8").read_text()
    described = {w for line in re.findall(r"^\.It Cm (.*)$", text, re.M) for w in line.split()[:1]}
    described |= set(re.findall(r"^\.Ss ([a-z]+)$", text, re.M))
    commands = subcommands()
    assert {"queue", "check", "dialog", "user", "sendmail"} <= commands
    assert commands <= described, commands - described


@pytest.mark.parametrize("path", MARKDOWN, ids=ids(MARKDOWN))
def test_subcommands_in_the_text_exist(path):
    """Lines and code that begin with chasq and a word."""
    text = path.read_text()
    text = text.replace(f"`{RUNNING[0]}`", "").replace(f"`{RUNNING[1]}`", "")
    used = set(re.findall(r"`chasq ([a-z]+)\b", text)) | set(re.findall(r"^ +chasq ([a-z]+)\b", text, re.M))
    assert used <= subcommands() | {"mailq", "newaliases"}, used - subcommands()


@pytest.mark.parametrize("path", MARKDOWN, ids=ids(MARKDOWN))
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        there = path.parent / name if name else path
        assert there.exists(), f"{path.name}: {target}"
        if anchor:
            heads = re.findall(r"^#+ (.*)$", there.read_text(), re.M)
            assert anchor in {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in heads}, target


def test_files_named_in_readme_exist():
    for name in re.findall(r"`((?:man|docs|packaging|tests|etc)/[\w./-]+)`", (TREE / "README.md").read_text()):
        assert (TREE / name).exists(), name


@pytest.mark.parametrize("path", BOOK, ids=ids(BOOK))
def test_chapters_are_short_and_listed(path):
    assert len(path.read_text().splitlines()) <= 150
    if path.name != "README.md":
        assert f"({path.name})" in (TREE / "docs/book/README.md").read_text()


def check(directory, *extra):
    done = subprocess.run([binary(), "-c", directory, "-t", *extra], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.parametrize("text", blocks("chasq.conf"))
def test_configurations_in_the_book_are_good(text, tmp_path):
    (tmp_path / "chasq.conf").write_text(text)
    for name in re.findall(r'password_file: "([^"/]+)"', text) + re.findall(r"monitoring_password_file: \"([^\"/]+)\"", text):
        (tmp_path / name).write_text("user:secret\n")
        (tmp_path / name).chmod(stat.S_IRUSR | stat.S_IWUSR)
    check(tmp_path)


def test_a_bad_configuration_would_be_seen(tmp_path):
    (tmp_path / "chasq.conf").write_text('hostname: "x.test"\nsmtp_adress: ":25"\n')
    with pytest.raises(AssertionError, match="smtp_adress"):
        check(tmp_path)


@pytest.mark.parametrize("text", blocks("aliases"))
def test_aliases_in_the_book_are_good(text, tmp_path):
    (tmp_path / "chasq.conf").write_text('hostname: "x.test"\n')
    d = tmp_path / "domains/x.test"
    d.mkdir(parents=True)
    (d / "aliases").write_text(text)
    said = check(tmp_path)
    count = len([line for line in text.splitlines() if line and not line.startswith("#")])
    assert re.search(rf"domain name=x\.test users=0 aliases={count}$", said, re.M), said


@pytest.mark.parametrize("text", blocks("uci"))
def test_openwrt_configurations_in_the_book_are_good(text, tmp_path):
    """The init script of the package makes a good chasq.conf of them."""
    secret = tmp_path / "password"
    secret.write_text("secret\n")
    secret.chmod(stat.S_IRUSR | stat.S_IWUSR)
    for d in ("etc/chasq/domains", "var/etc"):
        (tmp_path / d).mkdir(parents=True)
    text = text.replace("/srv/chasq", str(tmp_path / "srv")).replace("/etc/chasq/smarthost.password", str(secret))
    (tmp_path / "uci").write_text(text)
    script = (f"set -u\n. {TREE}/tests/tools/uci.sh\n. {TREE}/packaging/openwrt/chasq/files/chasq.init\n"
              f"chown() {{ :; }}\nlogger() {{ echo \"$@\" >&2; }}\nPROG={binary()}\nstart_service\n")
    done = subprocess.run(["dash", "-c", script], text=True, capture_output=True, timeout=60,
                          env={"PATH": os.environ["PATH"], "UCI_FILE": tmp_path / "uci", "CHASQ_ROOT": tmp_path})
    assert done.returncode == 0, done.stderr
    assert "procd_set_param command" in done.stdout and not done.stderr, done.stderr
    # Nothing of the file is passed over in silence.
    written = (tmp_path / "var/etc/chasq/chasq.conf").read_text()
    for name in re.findall(r"^\s*(?:option|list) (\w+)", text, re.M):
        assert name in ("enabled", "name", "alias", "user") or f"{name}:" in written, name


@pytest.mark.parametrize("text", blocks("sh"))
def test_scripts_in_the_book_are_good(text, tmp_path):
    script = tmp_path / "script"
    script.write_text(text)
    done = subprocess.run(["shellcheck", "-s", "sh", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


def test_the_deploy_hook_copies_a_certificate(tmp_path):
    [text] = [b.values[0] for b in blocks("sh") if "RENEWED_LINEAGE" in b.values[0]]
    group = subprocess.run(["id", "-gn"], capture_output=True, text=True).stdout.strip()
    text = text.replace("/etc/chasq/certs", str(tmp_path / "certs")).replace("-g chasq", f"-g {group}")
    live = tmp_path / "live/mail.example.org"
    certs.make_cert(tmp_path / "ca", ["mail.example.org"]).install(tmp_path / "live", "mail.example.org")
    done = subprocess.run(["sh", "-c", text], env={**os.environ, "RENEWED_LINEAGE": str(live)}, timeout=60,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (tmp_path / "chasq.conf").write_text('hostname: "mail.example.org"\n')
    made = tmp_path / "certs/mail.example.org"
    assert stat.S_IMODE((made / "privkey.pem").stat().st_mode) == 0o640
    assert (made / "fullchain.pem").read_bytes() == (live / "fullchain.pem").read_bytes()


def literals():
    """All that the program can say, literals side by side joined as the compiler does."""
    text = "\n".join(SOURCES[n] for n in sorted(SOURCES))
    text = re.sub(r'"\s*\n?\s*"', "", text)
    return text.replace('\\"', '"')


SAID = literals()
REPLY = re.compile(r"^[245]\d\d [245]\.\d+\.\d+ ")


def rows_of_troubleshooting():
    text = (TREE / "docs/book/troubleshooting.md").read_text()
    cells = [line.split(" | ")[0].lstrip("| ") for line in text.splitlines() if line.startswith("| ")]
    return [span for cell in cells for span in re.findall(r"`([^`]+)`", cell)]


def test_error_texts_in_troubleshooting_are_those_of_the_program():
    rows = rows_of_troubleshooting()
    assert len(rows) > 60
    strerror = {"Address already in use", "Permission denied"}
    foreign = {"450", "451", "greylist"}
    for span in rows:
        code = REPLY.match(span)
        if code:
            number, enhanced = code.group().split()
            # In a call, in a text, and in the table of replies.
            ways = rf'{number}, "{re.escape(enhanced)}"', rf"{number} {re.escape(enhanced)}", \
                rf"{number}, \{{{enhanced.replace('.', ', ')}\}}"
            assert re.search("|".join(ways), SAID), span
        for part in re.split(r"…|TLS_SECURE", REPLY.sub("", span)):
            part = part.strip(" :(),")
            if len(part) > 3 and part not in strerror | foreign:
                assert part in SAID, f"the program does not say: {part}"


def test_the_book_is_installed():
    makefile = (TREE / "Makefile").read_text()
    assert "$(DOCDIR)/book" in makefile
