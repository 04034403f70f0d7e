"""Real peers: Exim, Postfix's load tools and dnsmasq, as tests/deps.sh brings them."""

import os
import pathlib
import re
import shlex
import shutil
import subprocess

import pytest

from harness import TREE, can_connect, free_port, wait_for

ROOT = TREE / "build/peers/root"

EXIM_USER = "Debian-exim"
EXIM_UID = 64990


def need(path):
    path = pathlib.Path(path)
    assert path.exists(), f"{path} is missing: run tests/deps.sh"
    return path


def program(name):
    """A program of build/peers by its path below the root."""
    return need(ROOT / name)


def library_env():
    """The environment in which programs of build/peers find their libraries."""
    dirs = sorted({str(p.parent) for p in (ROOT / "usr/lib").rglob("*.so*")})
    return {"LD_LIBRARY_PATH": ":".join(dirs)}


def system(name):
    """A program of the system."""
    found = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    assert found, f"{name} is missing: run tests/deps.sh"
    return found


# ---- Exim ---------------------------------------------------------------------------------------

EXIM_CONF = """
primary_hostname = {hostname}
exim_path = {program}
deliver_drop_privilege = true
spool_directory = {spool}
log_file_path = {spool}/%slog
pid_file_path = {spool}/exim.pid
local_interfaces = {address}
daemon_smtp_ports = {port}
disable_ipv6 = true
host_lookup =
rfc1413_hosts =
rfc1413_query_timeout = 0s
keep_environment =
add_environment =
message_size_limit = 200M
smtp_accept_max = 200
smtp_accept_max_per_connection = 0
smtp_accept_queue = 0
smtp_accept_queue_per_connection = 0
queue_run_max = 5
accept_8bitmime = true
check_spool_space = 0
check_spool_inodes = 0
trusted_users = {user}
message_logs = false
acl_smtp_rcpt = acl_any
acl_smtp_data = acl_any
{main}

begin acl
acl_any:
  accept

begin routers
{routers}

begin transports
smarthost:
  driver = smtp
  port = {to_port}
  allow_localhost = true
  hosts_try_chunking =
  hosts_try_fastopen =
  message_linelength_limit = 2000000

dir:
  driver = appendfile
  directory = {spool}/maildir
  maildir_format = true
  create_directory = true
  user = {user}
  delivery_date_add = false
  envelope_to_add = true
  return_path_add = true

begin retry
* * F,1h,2s
"""


class Exim:
    """A private Exim. With `to` (address, port) it sends everything there, else it delivers into a
    Maildir (`messages()`). The binary insists on its user: a copy of /etc/passwd that knows it is
    mounted over the real one, in a mount namespace that only this Exim sees."""

    def __init__(self, box, address="127.0.0.1", port=None, to=None, hostname="exim.test", main="",
                 runner="-q5s"):
        may = [system("unshare"), *([] if os.getuid() == 0 else ["--map-root-user"]), "--mount", "true"]
        tried = subprocess.run(may, capture_output=True, text=True, check=False)
        if tried.returncode != 0:
            pytest.skip("Exim needs a mount namespace of its own, not to be had in a chroot and some "
                        "containers: " + tried.stderr.strip())
        self.address = address
        self.port = port or free_port(address)
        self.dir = box.dir("exim")
        self.spool = self.dir / "spool"
        self.spool.mkdir()
        etc = self.dir / "etc"
        etc.mkdir()
        uid = EXIM_UID if os.getuid() == 0 else os.getuid()
        for name, line in (("passwd", f"{EXIM_USER}:x:{uid}:{uid}::/nonexistent:/bin/false\n"),
                           ("group", f"{EXIM_USER}:x:{uid}:\n")):
            (etc / name).write_text(pathlib.Path("/etc", name).read_text() + line)
        if os.getuid() == 0:
            os.chown(self.spool, uid, uid)
        routers = ("all:\n  driver = accept\n  transport = dir\n" if to is None else
                   "all:\n  driver = manualroute\n  route_list = * "
                   f"{to[0]}\n  transport = smarthost\n  self = send\n  no_more\n")
        # It starts itself as its own user, who need not be able to reach the tree: /root for one.
        exim4 = shutil.copy(program("usr/sbin/exim4"), self.dir)
        conf = self.dir / "exim.conf"
        conf.write_text(EXIM_CONF.format(
            program=exim4, hostname=hostname, spool=self.spool, address=self.address, port=self.port,
            user=EXIM_USER, routers=routers, to_port=to[1] if to else 25,
            main=main if "tls_advertise_hosts" in main else "tls_advertise_hosts =\n" + main))
        # Without being root: a user namespace to mount in, and in it another to be oneself again.
        to_user = "" if os.getuid() == 0 else f"unshare --user --map-user={uid} --map-group={uid}"
        command = " && ".join([
            *(f"mount --bind {shlex.quote(str(etc / n))} /etc/{n}" for n in ("passwd", "group")),
            f"exec {to_user} {exim4} -C {conf} -bdf {runner}",
        ])
        # The PID namespace takes Exim's own children with it when it ends.
        self.process = box.process(
            [system("unshare"), *([] if os.getuid() == 0 else ["--map-root-user"]),
             "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", command],
            "exim", env=library_env())

        def ready():
            assert self.process.running(), "exim ended at start:\n" + self.log()
            return can_connect(self.address, self.port)

        wait_for(ready, 20, "exim to listen")

    def log(self):
        text = self.process.log()
        for name in ("main", "reject", "panic"):
            path = self.spool / f"{name}log"
            if path.exists():
                text += f"--- {name}log\n" + path.read_text("utf-8", "backslashreplace")
        return text

    def messages(self):
        new = self.spool / "maildir/new"
        return [p.read_bytes() for p in sorted(new.iterdir())] if new.exists() else []

    def queued(self):
        return sorted(self.spool.glob("input/**/*-H"))


# ---- Postfix's tools ----------------------------------------------------------------------------


def smtp_source(box, port, address="127.0.0.1", sessions=1, messages=1, sender="source@client.test",
                recipient="user@here.test", length=None, extra=()):
    """Postfix's load generator as a started Process; each message has its own Message-Id."""
    argv = [program("usr/sbin/smtp-source"), "-s", sessions, "-m", messages, "-f", sender,
            "-t", recipient, "-M", "client.test", *extra]
    if length:
        argv += ["-l", length]
    return box.process([*argv, f"inet:{address}:{port}"], "smtp-source", env=library_env())


class SmtpSink:
    """Postfix's smtp-sink; keeps every message as a file."""

    def __init__(self, box, address="127.0.0.1", port=None, extra=()):
        self.address = address
        self.port = port or free_port(address)
        self.dir = box.dir("smtp-sink")
        argv = [program("usr/sbin/smtp-sink"), "-d", "m.", "-h", "sink.test"]
        if os.getuid() == 0:
            # It gives up being root, and then writes in its directory.
            argv += ["-u", "nobody"]
            shutil.chown(self.dir, "nobody")
        self.process = box.process([*argv, *extra, f"inet:{self.address}:{self.port}", 256],
                                   "smtp-sink", cwd=self.dir, env=library_env())

        def ready():
            assert self.process.running(), "smtp-sink ended at start:\n" + self.process.log()
            return can_connect(self.address, self.port)

        wait_for(ready, 20, "smtp-sink to listen")

    def count(self):
        return sum(1 for _ in self.dir.glob("m.*"))

    def message_ids(self):
        """The Message-Id of each message kept, doubled ones doubled."""
        found = []
        for path in self.dir.glob("m.*"):
            m = re.search(rb"^Message-Id: (<[^>\r\n]*>)", path.read_bytes(), re.M | re.I)
            if m:
                found.append(m[1].decode())
        return found


# ---- dnsmasq ------------------------------------------------------------------------------------


class Dnsmasq:
    """A name server for the top level domain `test`: mx {domain: [(preference, host), ...]},
    hosts {name: [address, ...]}. Other names of `test` do not exist."""

    def __init__(self, box, mx=None, hosts=None, address="127.0.0.1", extra=()):
        self.address = address
        self.port = free_port(address)
        argv = [system("dnsmasq"), "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv",
                "--no-hosts", "--bind-interfaces", f"--listen-address={address}",
                "--except-interface=nonexistent", f"--port={self.port}", "--pid-file=",
                "--local=/test/", "--log-queries", "--log-facility=-", "--cache-size=0",
                "--local-ttl=1"]
        if os.getuid() == 0:
            argv += ["--user=root"]
        for domain, targets in (mx or {}).items():
            argv += [f"--mx-host={domain},{host},{preference}" for preference, host in targets]
        for name, addresses in (hosts or {}).items():
            argv += [f"--host-record={name},{a}" for a in addresses]
        self.process = box.process([*argv, *extra], "dnsmasq")

        def ready():
            assert self.process.running(), "dnsmasq ended at start:\n" + self.process.log()
            return can_connect(self.address, self.port)

        wait_for(ready, 10, "dnsmasq to listen")

    @property
    def server(self):
        return f"{self.address}:{self.port}"

    def queries(self):
        """(type, name) of each question asked."""
        return re.findall(r"query\[(\w+)\] (\S+) from", self.process.log())


# ---- Postfix ------------------------------------------------------------------------------------

POSTFIX_MASTER = """
{address}:{port}      inet  n - n - - smtpd
{address}:{tls_port}  inet  n - n - - smtpd -o smtpd_tls_wrappermode=yes
pickup    unix  n - n 60 1 pickup
cleanup   unix  n - n - 0 cleanup
qmgr      unix  n - n 300 1 qmgr
tlsmgr    unix  - - n 1000? 1 tlsmgr
rewrite   unix  - - n - - trivial-rewrite
bounce    unix  - - n - 0 bounce
defer     unix  - - n - 0 bounce
trace     unix  - - n - 0 bounce
discard   unix  - - n - - discard
error     unix  - - n - - error
retry     unix  - - n - - error
virtual   unix  - n n - - virtual
anvil     unix  - - n - 1 anvil
proxymap  unix  - - n - - proxymap
scache    unix  - - n - 1 scache
postlog   unix-dgram n - n - 1 postlogd
"""

POSTFIX_MAIN = """
compatibility_level = 3.6
inet_interfaces = loopback-only
inet_protocols = ipv4
myhostname = postfix.test
mydestination =
mynetworks = 127.0.0.0/8
queue_directory = {dir}/spool
data_directory = {dir}/data
command_directory = {root}/usr/sbin
daemon_directory = {root}/usr/lib/postfix/sbin
shlib_directory = {root}/usr/lib/postfix
meta_directory = {dir}/etc
mail_owner = postfix
setgid_group = postdrop
default_privs = nobody
import_environment = MAIL_CONFIG LD_LIBRARY_PATH TZ LANG=C
maillog_file = {dir}/log
maillog_file_prefixes = {dir}
alias_maps =
alias_database =
smtputf8_enable = no
default_database_type = texthash
virtual_mailbox_domains = static:all
virtual_mailbox_maps = static:all/
virtual_mailbox_base = {dir}/mail
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{uid}
smtpd_relay_restrictions = {relay}
smtpd_client_connection_count_limit = 0
{main}
"""


class Postfix:
    """A private Postfix that delivers everything into one Maildir. `cert` makes it speak TLS, on
    `port` by STARTTLS and on `tls_port` from the beginning; `sasl`, the socket of a Dovecot, makes it
    demand a login under TLS. Needs root. Its users live in a mount namespace of its own."""

    UID = 64991

    def __init__(self, box, address="127.0.0.1", cert=None, sasl=None, main="", port=None):
        assert os.getuid() == 0, "Postfix's master must be started by root"
        self.address = address
        self.port = port or free_port(address)
        self.tls_port = free_port(address)
        self.dir = box.dir("postfix")
        etc, spool = self.dir / "etc", self.dir / "spool"
        for d in (etc, spool, self.dir / "data", self.dir / "mail/all"):
            d.mkdir(parents=True)
        for d in ("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming",
                  "maildrop", "private", "public", "saved", "trace", "pid"):
            (spool / d).mkdir()
            if d not in ("pid",):
                os.chown(spool / d, self.UID, 0)
        (spool / "pid").chmod(0o755)
        os.chown(spool / "maildrop", self.UID, self.UID + 1)
        (spool / "maildrop").chmod(0o1730)
        os.chown(spool / "public", self.UID, self.UID + 1)
        (spool / "public").chmod(0o2710)
        (spool / "private").chmod(0o700)
        os.chown(self.dir / "data", self.UID, self.UID)
        for d in (self.dir / "mail", self.dir / "mail/all"):
            os.chown(d, self.UID, self.UID)
        extra = main
        if cert is not None:
            extra += ("smtpd_tls_security_level = may\nsmtpd_tls_loglevel = 1\n"
                      f"smtpd_tls_chain_files = {cert.key}, {cert.fullchain}\n")
        if sasl is not None:
            extra += ("smtpd_sasl_auth_enable = yes\nsmtpd_sasl_type = dovecot\nsmtpd_tls_auth_only = yes\n"
                      f"smtpd_sasl_path = {sasl}\n")
        relay = "permit_mynetworks, reject" if sasl is None else "permit_sasl_authenticated, reject"
        (etc / "main.cf").write_text(POSTFIX_MAIN.format(
            dir=self.dir, root=ROOT, uid=self.UID, relay=relay, main=extra))
        (etc / "master.cf").write_text(POSTFIX_MASTER.format(
            address=address, port=self.port, tls_port=self.tls_port))
        (etc / "dynamicmaps.cf").write_text("")
        for name, lines in (
                ("passwd", f"postfix:x:{self.UID}:{self.UID}::/nonexistent:/bin/false\n"),
                ("group", f"postfix:x:{self.UID}:\npostdrop:x:{self.UID + 1}:\n")):
            (etc / name).write_text(pathlib.Path("/etc", name).read_text() + lines)
        command = " && ".join([
            *(f"mount --bind {shlex.quote(str(etc / n))} /etc/{n}" for n in ("passwd", "group")),
            f"exec {program('usr/lib/postfix/sbin/master')} -c {etc} -d",
        ])
        self.process = box.process(
            [system("unshare"), "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", command],
            "postfix", env={**library_env(), "MAIL_CONFIG": str(etc)})

        def ready():
            assert self.process.running(), "postfix ended at start:\n" + self.log()
            return can_connect(self.address, self.port) and can_connect(self.address, self.tls_port)

        wait_for(ready, 20, "postfix to listen")

    def log(self):
        path = self.dir / "log"
        return self.process.log() + (path.read_text("utf-8", "backslashreplace")
                                     if path.exists() else "")

    def messages(self):
        new = self.dir / "mail/all/new"
        return [p.read_bytes() for p in sorted(new.iterdir())] if new.exists() else []
