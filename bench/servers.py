"""The servers that the benchmarks compare, each on a disk of its own: ext4 with a journal, in a file.

A server is started for a job:
    accept   takes messages, makes them durable, and keeps them: no delivery is tried
    relay    sends them on to the sink at `to`, as a smarthost
    maildir  delivers them into the Maildir `new` of one user
    mda      the same, by a program: procmail
    tls      as accept, and shakes hands on `tls_port`, without STARTTLS
What a server has that cannot do a job is raised as Missing, with the reason.

All but that is left at the default, save limits that a client of ours would hit (sessions and messages
a host or a connection), look-ups of the client's name, which ask the network, and TLS where it is not
what is measured. Nothing is installed: Postfix and Exim come with the tests' peers, OpenSMTPD and
chasquid are unpacked into build/bench, and all of them find their users in mount namespaces."""

import os
import pathlib
import shlex
import shutil
import subprocess
import sys

TREE = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TREE / "tests/e2e"))

import certs  # noqa: E402
import harness  # noqa: E402
import peers  # noqa: E402

WORK = TREE / "build/bench"
UNPACKED = WORK / "peers"
USERS = {"opensmtpd": 64980, "opensmtpq": 64981, "bench": 64982}
DNS = "127.0.0.77"
PROGRAMS = {"bare": [], "load": [], "handshake": ["-lmbedtls", "-lmbedx509", "-lmbedcrypto"]}


class Missing(Exception):
    """A server cannot take part; the text says why."""


def run(*argv, **kwargs):
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, check=False, **kwargs)
    if done.returncode != 0:
        raise Missing(f"{argv[0]}: {done.stdout}{done.stderr}".strip())
    return done.stdout


def build():
    """The load generator and the bare servers."""
    WORK.mkdir(parents=True, exist_ok=True)
    for name, libraries in PROGRAMS.items():
        source, program = TREE / f"bench/{name}.c", WORK / name
        if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
            new = program.with_suffix(f".{os.getpid()}")
            run("cc", "-std=c11", "-D_GNU_SOURCE", "-O2", "-o", new, source, *libraries)
            new.rename(program)


def fetch():
    """Unpacks the peers that the tests do not use."""
    if (UNPACKED / "usr/sbin/smtpd").exists():
        return
    debs = UNPACKED / "deb"
    debs.mkdir(parents=True, exist_ok=True)
    run("apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", "opensmtpd", "chasquid", cwd=debs)
    for deb in debs.glob("*.deb"):
        run("dpkg", "-x", deb, UNPACKED)


class Disk(harness.Sandbox):
    """A sandbox whose directory is a fresh ext4 on a loop device."""

    def __init__(self, name, mib=3072, inodes=400000):
        super().__init__("bench-" + name)
        self.base, self.wrap = self.path, []
        try:
            self._set_up(mib, inodes)
        except BaseException:
            self.stop()
            raise

    def _set_up(self, mib, inodes):
        image, where = self.base / "image", self.base / "disk"
        where.mkdir()
        with open(image, "wb") as f:
            f.truncate(mib << 20)
        # All is laid out at once: nothing is initialized in the background later.
        run(peers.system("mkfs.ext4"), "-q", "-F", "-m", 0, "-N", inodes,
            "-E", "lazy_itable_init=0,lazy_journal_init=0", image)
        self.device = run(peers.system("losetup"), "--find", "--show", image).strip()
        self._stack.callback(run, peers.system("losetup"), "--detach", self.device)
        run(peers.system("mount"), "-t", "ext4", self.device, where)
        where.chmod(0o755)
        self._stack.callback(self._unmount, where)
        self.path = where

    def _unmount(self, where):
        # A mount namespace that is just ending may hold it for a moment.
        harness.wait_for(lambda: subprocess.run(["umount", where], stderr=subprocess.DEVNULL,
                                                check=False).returncode == 0, 20, f"{where} to be free")

    def process(self, argv, name, **kwargs):
        return super().process([*self.wrap, *argv], name, **kwargs)

    def written(self):
        """Bytes written to the device since it was set up."""
        os.sync()
        name = pathlib.Path(self.device).name
        return 512 * int(pathlib.Path(f"/sys/block/{name}/stat").read_text().split()[6])

    def stop(self):
        self.path = self.base
        super().stop()


class Server:
    """A started server: address and port, the process at its root, what to send it to whom."""

    def __init__(self, name, disk, process, port, to="load@far.test", new=None, env=None, tls_port=None):
        self.name, self.disk, self.process, self.env, self.tls_port = name, disk, process, env, tls_port
        self.address, self.port, self.to, self.new = "127.0.0.1", port, to, new

    @property
    def pid(self):
        return self.process.pid

    def kill(self):
        """Returns when it is gone."""
        self.process.end()

    def start_again(self):
        """As it was; returns at once."""
        self.process = self.disk.process(self.process.argv, self.name, env=self.env)


# ---- chasq, bare ----------------------------------------------------------------------------------


def procmail(disk, owner=None):
    """(Maildir, argv): delivers into it, whatever comes."""
    box = disk.path / "box"
    box.mkdir()
    rules = disk.path / "procmailrc"
    rules.write_text(f":0\n{box}/\n")
    if owner:
        shutil.chown(box, owner)
    return box, [str(peers.program("usr/bin/procmail")), "-m", str(rules)]


def chasq(disk, job, to=None, cert=None, program=None):
    conf = {"trusted_network": "127.0.0.0/8", "max_queue_items": 200000, "max_data_size_mb": 60}
    tls_port = harness.free_port()
    if job == "tls":
        conf["submission_over_tls_address"] = f"127.0.0.1:{tls_port}"
    local = {}
    if job == "mda":
        box, argv = procmail(disk)
        conf |= {"maildir": None, "mail_delivery_agent_bin": argv[0], "mail_delivery_agent_args": argv[1:],
                 "sandbox_writable": str(disk.path), "sandbox_readable": str(peers.ROOT)}
        local = {"to": "user@here.test", "new": box / "new"}
    c = harness.Chasq(disk, "chasq", program=program, conf=conf, journal=True)
    if to:
        with open(c.dir / "chasq.conf", "a") as f:
            f.write(f'smarthost {{ address: "{to[0]}:{to[1]}" tls: NONE }}\n')
    if cert:
        cert.install(c.dir / "certs", "mx.test")
    c.start()
    if job == "accept":
        held = c.run("hold", "far.test", "-C", c.dir)
        if held.returncode:
            raise Missing("chasq hold: " + held.stderr.decode())
    if job == "maildir":
        local = {"to": "user@here.test", "new": c.maildir("user") / "new"}
    return Server("chasq", disk, c.process, c.port, tls_port=tls_port, **local)


def bare(store):
    def start(disk, job, to=None, cert=None):
        if job != "accept" or cert:
            raise Missing("bare only accepts")
        port, where = harness.free_port(), disk.dir("bare")
        p = disk.process([WORK / "bare", store, where, "127.0.0.1", port], "bare")
        harness.wait_for(lambda: harness.can_connect("127.0.0.1", port), 20, "bare to listen")
        return Server("bare " + store, disk, p, port)

    return start


# ---- Postfix, Exim --------------------------------------------------------------------------------


def mbedtls(disk, job, to=None, cert=None):
    if job != "tls":
        raise Missing("bare mbedTLS only shakes hands")
    port = harness.free_port()
    p = disk.process([WORK / "handshake", cert.fullchain, cert.key, "127.0.0.1", port], "mbedtls")
    harness.wait_for(lambda: harness.can_connect("127.0.0.1", port), 20, "bare mbedTLS to listen")
    return Server("bare mbedTLS", disk, p, port, tls_port=port)


def openssl(disk, job, to=None, cert=None):
    if job != "tls":
        raise Missing("s_server only shakes hands")
    port = harness.free_port()
    p = disk.process([peers.system("openssl"), "s_server", "-accept", f"127.0.0.1:{port}", "-key", cert.key,
                      "-cert", cert.fullchain, "-www", "-quiet"], "openssl")
    harness.wait_for(lambda: harness.can_connect("127.0.0.1", port), 20, "s_server to listen")
    return Server("openssl s_server", disk, p, port, tls_port=port)


def postfix(disk, job, to=None, cert=None):
    main = ["smtpd_peername_lookup = no", "message_size_limit = 60000000", "virtual_mailbox_limit = 0",
            "smtpd_client_connection_rate_limit = 0"]
    if job == "accept":
        main.append("smtpd_end_of_data_restrictions = check_client_access static:HOLD")
    if job == "relay":
        main += ["virtual_mailbox_domains =", f"relayhost = [{to[0]}]:{to[1]}"]
    master, local = peers.POSTFIX_MASTER, {}
    peers.POSTFIX_MASTER += "smtp unix - - n - - smtp\n"
    if job == "mda":
        box, argv = procmail(disk, "nobody")
        main.append("virtual_transport = mda")
        peers.POSTFIX_MASTER += f"mda unix - n n - - pipe flags=R user=nobody argv={shlex.join(argv)}\n"
        local = {"to": "user@here.test", "new": box / "new"}
    try:
        p = peers.Postfix(disk, cert=cert, main="\n".join(main) + "\n")
    finally:
        peers.POSTFIX_MASTER = master
    if job == "maildir":
        local = {"to": "user@here.test", "new": p.dir / "mail/all/new"}
    return Server("Postfix", disk, p.process, p.port, tls_port=p.tls_port,
                  env={**peers.library_env(), "MAIL_CONFIG": str(p.dir / "etc")}, **local)


def exim(disk, job, to=None, cert=None):
    main = "queue_only = true\n" if job == "accept" else ""
    if cert:
        main += (f"tls_advertise_hosts = *\ntls_certificate = {cert.fullchain}\n"
                 f"tls_privatekey = {cert.key}\n")
    e = peers.Exim(disk, to=to if job == "relay" else None, main=main, runner="-q30m")
    local = {"new": e.spool / "maildir/new"} if job == "maildir" else {}
    return Server("Exim", disk, e.process, e.port, env=peers.library_env(), **local)


# ---- OpenSMTPD, chasquid: in a mount namespace with what they expect in fixed places --------------


def private_etc(disk):
    """Copies of passwd, group and resolv.conf that know our users and our name server; the commands
    that mount them."""
    etc = disk.dir("etc")
    mail = disk.path / "mail"
    mail.mkdir()
    os.chown(mail, USERS["bench"], USERS["bench"])
    passwd = "".join(f"{n}:x:{u}:{u}::{mail if n == 'bench' else '/nonexistent'}:/bin/sh\n"
                     for n, u in USERS.items())
    group = "".join(f"{n}:x:{u}:\n" for n, u in USERS.items())
    (etc / "passwd").write_text(pathlib.Path("/etc/passwd").read_text() + passwd)
    (etc / "group").write_text(pathlib.Path("/etc/group").read_text() + group)
    (etc / "resolv.conf").write_text(f"nameserver {DNS}\n")
    return [f"mount --bind {shlex.quote(str(p))} /etc/{p.name}" for p in etc.iterdir()]


def in_namespace(disk, name, commands, port, env=None):
    p = disk.process([peers.system("unshare"), "--mount", "--pid", "--fork", "--kill-child", "sh", "-c",
                      " && ".join(commands)], name, env=env)

    def ready():
        if not p.running():
            raise Missing(f"{name} ended at start: {p.log()[-500:]}")
        return harness.can_connect("127.0.0.1", port)

    harness.wait_for(ready, 20, f"{name} to listen")
    return p


OPENSMTPD_CONF = """
{pki}smtp max-message-size 60M
smtp limit max-mails 1000000
smtp limit max-rcpt 1000000
listen on 127.0.0.1 port {port} hostname opensmtpd.test {tls}
action "local" maildir "{mail}/box"
action "out" relay {host}
match from any for domain "here.test" action "local"
match from any for any action "out"
"""


def opensmtpd(disk, job, to=None, cert=None):
    fetch()
    where = disk.dir("opensmtpd")
    port = harness.free_port()
    conf = where / "smtpd.conf"
    pki = ""
    if cert:
        key = where / "key.pem"
        key.touch(0o600)
        key.write_bytes(cert.key.read_bytes())
        pki = f'pki here cert "{cert.fullchain}"\npki here key "{key}"\n'
    conf.write_text(OPENSMTPD_CONF.format(
        pki=pki, tls="tls pki here" if cert else "", port=port, mail=disk.path / "mail",
        host=f"host smtp://{to[0]}:{to[1]}" if to else ""))
    # The file is read as root; the spool belongs to whom smtpd says at its start.
    var = where / "var"
    for d in ("spool/smtpd", "lib/opensmtpd/empty"):
        (var / d).mkdir(parents=True)
    spool = where / "spool"
    spool.mkdir()
    spool.chmod(0o711)
    commands = [*private_etc(disk), f"mount -t overlay usr -o lowerdir={UNPACKED}/usr:/usr /usr",
                f"mount -t overlay var -o lowerdir={var}:/var /var", "mount -t tmpfs run /run",
                f"mount --bind {spool} /var/spool/smtpd", f"exec /usr/sbin/smtpd -d -f {conf}"]
    p = in_namespace(disk, "opensmtpd", commands, port)
    if job == "accept":
        # The first in the namespace is unshare itself, or below strace.
        inside = p.pid if not disk.wrap or "strace" not in str(disk.wrap) else int(
            pathlib.Path(f"/proc/{p.pid}/task/{p.pid}/children").read_text().split()[0])
        run(peers.system("nsenter"), "--mount", "--setgid", USERS["opensmtpq"], "--target", inside,
            "/usr/sbin/smtpctl", "pause", "mta")
    local = ({"to": "bench@here.test", "new": disk.path / "mail/box/new"} if job == "maildir" else {})
    return Server("OpenSMTPD", disk, p, port, **local)


def chasquid(disk, job, to=None, cert=None):
    """Its queue has 200 places and no pause: to accept, it gives each message to true(1)."""
    fetch()
    where = disk.dir("chasquid")
    port = harness.free_port()
    cert = cert or certs.make_cert(disk.base / "chasquid-cert", ["mx.test"])
    cert.install(where / "certs", "mx.test")
    domain = where / "domains/here.test"
    domain.mkdir(parents=True)
    (domain / "users").write_text('users: { key: "user" value: { plain: { password: "x" } } }\n')
    (domain / "aliases").write_text("away: load@far.test\n")
    (where / "data").mkdir()
    new = disk.path / "maildir/new"
    rules = where / "procmailrc"
    rules.write_text(f":0\n{new.parent}/\n")
    mda = (["/bin/true"] if job == "accept" else
           [str(peers.program("usr/bin/procmail")), "-m", str(rules)])
    tls_port = harness.free_port()
    (where / "chasquid.conf").write_text(harness.text_proto({
        **({"submission_over_tls_address": f"127.0.0.1:{tls_port}"} if job == "tls" else {}),
        "hostname": "mx.test", "smtp_address": f"127.0.0.1:{port}", "data_dir": str(where / "data"),
        "max_data_size_mb": 60, "mail_log_path": str(where / "mail.log"),
        "mail_delivery_agent_bin": mda[0], "mail_delivery_agent_args": mda[1:]}))
    dns = [peers.system("dnsmasq"), "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv",
           "--no-hosts", "--bind-interfaces", f"--listen-address={DNS}",
           "--except-interface=nonexistent", "--port=53", "--pid-file=", "--user=root", "--local=/test/",
           "--mx-host=far.test,mx.far.test,10", f"--host-record=mx.far.test,{to[0] if to else '127.0.0.2'}"]
    if job == "relay":
        disk.process(dns, "dnsmasq")
    p = in_namespace(disk, "chasquid", [*private_etc(disk), " ".join([
        "exec", str(UNPACKED / "usr/bin/chasquid"), "-config_dir", str(where),
        "-testing__outgoing_smtp_port", str(to[1] if to else 25)])], port)
    if job == "maildir":
        new.parent.mkdir(exist_ok=True)
    return Server("chasquid", disk, p, port, tls_port=tls_port, new=new if job == "maildir" else None,
                  to="away@here.test" if job == "relay" else "user@here.test")


TLS = {"bare mbedTLS": mbedtls, "chasq": chasq, "openssl s_server": openssl, "Postfix": postfix,
       "chasquid": chasquid}
ALL = {"chasq": chasq, "Postfix": postfix, "Exim": exim, "OpenSMTPD": opensmtpd, "chasquid": chasquid,
       **{"bare " + s: bare(s) for s in ("file", "syncfs", "log", "none")}}


def programs(program):
    """(name, [programs], environment) of each server: what runs when it serves."""
    env = {**os.environ, **peers.library_env()}
    here = peers.ROOT / "usr/lib/postfix/sbin"
    postfix_programs = ("master", "smtpd", "cleanup", "qmgr", "smtp", "virtual", "trivial-rewrite", "bounce", "tlsmgr",
                        "anvil", "scache", "pickup", "proxymap")
    found = [("chasq", [pathlib.Path(program)], os.environ), ("Postfix", [here / n for n in postfix_programs], env),
             ("Exim", [peers.ROOT / "usr/sbin/exim4"], env), ("OpenSMTPD", [UNPACKED / "usr/sbin/smtpd"], os.environ),
             ("chasquid", [UNPACKED / "usr/bin/chasquid"], os.environ), ("bare log", [WORK / "bare"], os.environ)]
    return [(name, [p for p in paths if p.exists()], e) for name, paths, e in found]


def versions(program):
    """A line a server."""
    env = {**os.environ, **peers.library_env()}

    def first(*argv):
        try:
            done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, env=env,
                                  check=False)
            return (done.stdout + done.stderr).splitlines()[0].strip()
        except (OSError, IndexError) as e:
            return f"unknown ({e})"

    def debian(package):
        for d in (TREE / "build/peers/deb", UNPACKED / "deb"):
            for deb in d.glob(f"{package}_*.deb"):
                return deb.name.split("_")[1].replace("%3a", ":")
        return "unknown"

    commit = first("git", "-C", TREE, "describe", "--always", "--dirty")
    return {"chasq": f"{first(program, '-V').removeprefix('chasq ')}, {commit}",
            "Postfix": debian("postfix"), "Exim": debian("exim4-daemon-light"),
            "OpenSMTPD": debian("opensmtpd"), "chasquid": debian("chasquid")}
