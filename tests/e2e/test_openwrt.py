"""The OpenWrt package's init script: /etc/config/chasq becomes a configuration that chasq takes."""

import os
import re
import subprocess

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
FILES = os.path.join(ROOT, "packaging/openwrt/chasq/files")
CHASQ = os.environ.get("CHASQ", os.path.join(ROOT, "build/asan/chasq"))


def run_init(tmp_path, config, action="start_service"):
    """Runs a function of the init script under dash; returns its process."""
    uci = tmp_path / "uci"
    uci.write_text(config)
    script = f'set -u\n. {ROOT}/tests/tools/uci.sh\n. {FILES}/chasq.init\nchown() {{ :; }}\nPROG={CHASQ}\n{action}\n'
    env = {"PATH": os.environ["PATH"], "UCI_FILE": str(uci), "CHASQ_ROOT": str(tmp_path)}
    return subprocess.run(["dash", "-c", script], env=env, text=True, capture_output=True, timeout=60)


def conf(tmp_path):
    return (tmp_path / "var/etc/chasq/chasq.conf").read_text()


@pytest.fixture
def root(tmp_path):
    for d in ("etc/chasq/domains", "var/etc"):
        (tmp_path / d).mkdir(parents=True)
    return tmp_path


def shipped(root, extra=""):
    text = open(os.path.join(FILES, "chasq.config")).read()
    return text.replace("/srv/chasq", str(root / "srv")) + extra


def test_what_is_shipped_starts(root):
    done = run_init(root, shipped(root))
    assert done.returncode == 0, done.stderr
    assert f"procd_set_param command {CHASQ} -c {root}/var/etc/chasq" in done.stdout
    for line in ("procd_set_param user chasq", "procd_set_param no_new_privs 1", "procd_add_jail chasq log",
                 "procd_set_param capabilities /etc/capabilities/chasq.json", f"procd_add_jail_mount_rw {root}/srv"):
        assert line in done.stdout
    name = open("/proc/sys/kernel/hostname").read().strip()
    assert "root" in (root / f"var/etc/chasq/domains/{name}/aliases").read_text()
    assert 'mail_log_path: ""' in conf(root)


def test_all_that_is_commented_out_is_taken(root):
    """The examples in the shipped file work when their # goes."""
    text = re.sub(r"(?m)^(\t?)#(config|\t*option|\t*list)", r"\1\2", shipped(root))
    secret = root / "etc/chasq/smarthost.password"
    secret.write_text("secret\n")
    secret.chmod(0o600)
    text = text.replace("/etc/chasq/smarthost.password", str(secret))
    done = run_init(root, text)
    assert done.returncode == 0, done.stderr
    assert 'address: "smtp.example.net:587"' in conf(root)
    assert 'trusted_network: "192.168.1.0/24"' in conf(root)


def test_every_key_of_chasq_conf_can_be_set(root):
    """The script's lists name every key that the server knows, by asking the server for them all."""
    script = open(os.path.join(FILES, "chasq.init")).read()
    words = set()
    for name in ("STRINGS", "LISTS", "WORDS"):
        words |= set(re.search(rf'(?m)^{name}="([^"]*)"', script).group(1).split())
    source = "".join(open(os.path.join(ROOT, f)).read() for f in os.listdir(ROOT) if re.match(r"conf_?\w*\.c$", f))
    keys = set(re.findall(r'KEY_(?:FIELD|LIST)\((?:\w+, )?\d+,[^;]*?"(\w+)"\)', source)) | {"local_line_ends"}
    assert len(keys) > 30
    assert keys - words == set()


def test_hostile_values_stay_values(root):
    evil = r'''a"b\c" user: "root'''
    extra = f"\nconfig chasq 'main'\n\toption maildir '{evil}'\n"
    done = run_init(root, shipped(root) + extra)
    assert done.returncode == 0, done.stderr
    line = [x for x in conf(root).splitlines() if x.startswith("maildir")]
    assert line == [r'maildir: "a\"b\\c\" user: \"root"']


@pytest.mark.parametrize("option, complaint", [
    ("option max_queue_items 'ten thousand'", "max_queue_items: not a word or number"),
    ("option smtp_address 'x'\n\tlist smtp_address 'nonsense'", "not started"),
])
def test_what_is_wrong_is_said(root, option, complaint):
    done = run_init(root, shipped(root) + f"\nconfig chasq 'main'\n\t{option}\n")
    assert complaint in done.stderr


def test_a_domain_made_by_hand_counts_more(root):
    name = open("/proc/sys/kernel/hostname").read().strip()
    hand = root / "etc/chasq/domains" / name
    hand.mkdir()
    (hand / "aliases").write_text("root: elsewhere@example.net\n")
    done = run_init(root, shipped(root))
    assert done.returncode == 0, done.stderr
    assert (root / f"var/etc/chasq/domains/{name}/aliases").read_text() == "root: elsewhere@example.net\n"


def test_a_domain_cannot_leave_the_directory(root):
    done = run_init(root, shipped(root) + "\nconfig domain\n\toption name '../../x'\n\tlist alias 'a: b'\n")
    assert "not a name" in done.stderr
    assert not (root / "var/x").exists()


def test_reload_writes_anew_and_signals(root):
    assert run_init(root, shipped(root)).returncode == 0
    done = run_init(root, shipped(root) + "\nconfig chasq 'main'\n\toption max_data_size_mb '7'\n", "reload_service")
    assert done.returncode == 0, done.stderr
    assert "procd_send_signal chasq * HUP" in done.stdout
    assert "max_data_size_mb: 7" in conf(root)
    assert not (root / "var/etc/chasq.old").exists()


def test_off_means_off(root):
    done = run_init(root, shipped(root).replace("option enabled '1'", "option enabled '0'"))
    assert done.returncode == 0 and "procd" not in done.stdout
