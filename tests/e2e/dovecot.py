"""A private Dovecot of build/peers: its authentication server and, where asked for, LMTP."""

import grp
import os
import pwd
import subprocess

from harness import free_port, wait_for
from peers import ROOT, library_env, program

CONF = """
base_dir = {run}
state_dir = {state}
log_path = /dev/stderr
libexec_dir = {root}/usr/lib/dovecot
default_internal_user = {user}
default_internal_group = {group}
default_login_user = {user}
import_environment = $import_environment LD_LIBRARY_PATH LD_PRELOAD
protocols = {protocols}
ssl = no
auth_mechanisms = plain login
auth_failure_delay = 0
auth_verbose = yes
passdb {{
  driver = passwd-file
  args = username_format=%u {users}
}}
userdb {{
  driver = passwd-file
  args = username_format=%u {users}
}}
service auth {{
  user = {user}
  unix_listener auth-userdb {{
    mode = 0600
  }}
  unix_listener {client} {{
    mode = 0666
  }}
}}
# No penalty for addresses that fail: it would make each wrong password of a test slower.
service anvil {{
  chroot =
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service stats {{
  chroot =
}}
{extra}
"""

# Mail is kept by MAIL_USER; postmaster_address, as none is to be asked of the machine's name.
LMTP = """
mail_location = maildir:{mail}/%d/%n
mail_plugin_dir = {root}/usr/lib/dovecot/modules
mail_plugins = quota
first_valid_uid = 1
postmaster_address = postmaster@dovecot.test
plugin {{
  quota = maildir:User quota
}}
service lmtp {{
  user = {user}
  chroot =
  unix_listener lmtp {{
    mode = 0666
  }}
  inet_listener lmtp {{
    address = {address}
    port = {port}
  }}
}}
"""
# Services that may speak TLS load its module, whether it is used or not, from the place that Debian
# compiled in. A preloaded library leads them to that of build/peers.
SHIM = r"""
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

static const char *moved(const char *path, char *out, size_t size)
{
	if (!path || strncmp(path, "/usr/lib/dovecot/", 17) != 0)
		return path;
	snprintf(out, size, "%s%s", ROOT, path);
	return out;
}

DIR *opendir(const char *path)
{
	char other[4096];
	DIR *(*real)(const char *) = (DIR *(*)(const char *))dlsym(RTLD_NEXT, "opendir");
	return real(moved(path, other, sizeof other));
}

void *dlopen(const char *path, int flags)
{
	char other[4096];
	void *(*real)(const char *, int) = (void *(*)(const char *, int))dlsym(RTLD_NEXT, "dlopen");
	return real(moved(path, other, sizeof other), flags);
}
"""
MAIL_USER = 65534 if os.getuid() == 0 else os.getuid()


class Dovecot:
    """users: names to passwords. The sockets are run/auth-userdb and run/CLIENT; with lmtp also run/lmtp
    and address:lmtp_port, with mail below `mail` (that of another Dovecot, to share it). quotas: the storage
    of users, as "10B"; the others have no limit."""

    def __init__(self, box, users, client="auth-client", extra="", lmtp=False, quotas=(), address="127.0.0.1",
                 port=None, mail=None):
        self.box = box
        self.dir = box.dir("dovecot")
        self.run = self.dir / "run"
        self.run.mkdir()
        self.userdb, self.client = self.run / "auth-userdb", self.run / client
        self.users = self.dir / "users"
        self.quotas = dict(quotas)
        self.set_users(users)
        self.lmtp = None
        self.env = library_env()
        if lmtp:
            self.lmtp, self.lmtp_port = self.run / "lmtp", port or free_port(address)
            self.mail = mail or self.dir / "mail"
            self.mail.mkdir(exist_ok=True)
            os.chown(self.mail, MAIL_USER, -1)
            self.env["LD_PRELOAD"] = str(self.make_shim())
            extra += LMTP.format(mail=self.mail, root=ROOT, port=self.lmtp_port, address=address,
                                 user=pwd.getpwuid(os.getuid()).pw_name)
        self.conf = self.dir / "dovecot.conf"
        self.conf.write_text(CONF.format(
            run=self.run, state=self.dir / "state", root=ROOT, users=self.users, client=client,
            protocols="lmtp" if lmtp else "",
            user=pwd.getpwuid(os.getuid()).pw_name, group=grp.getgrgid(os.getgid()).gr_name, extra=extra))
        self.process = None

    def make_shim(self):
        source, shim = self.dir / "shim.c", self.dir / "shim.so"
        source.write_text(SHIM)
        subprocess.run([os.environ.get("CC", "cc"), f'-DROOT="{ROOT}"', "-O1", "-fPIC", "-shared", "-o", shim,
                        source, "-ldl"], check=True)
        return shim

    def set_users(self, users):
        def quota(user):
            limit = self.quotas.get(user)
            return f"userdb_quota_rule=*:storage={limit}" if limit else ""

        gid = 65534 if os.getuid() == 0 else os.getgid()
        self.users.write_text("".join(f"{u}:{{PLAIN}}{p}:{MAIL_USER}:{gid}::/nonexistent::{quota(u)}\n"
                                      for u, p in users.items()))

    def start(self):
        # dovecot would look for its doveconf where packages install it: this one starts it instead.
        self.process = self.box.process(
            [program("usr/bin/doveconf"), "-c", self.conf, "-f", "service=master", "-e",
             program("usr/sbin/dovecot"), "-F", "-c", self.conf], "dovecot", env=self.env)

        def ready():
            assert self.process.running(), "dovecot ended at start:\n" + self.log()
            sockets = [s for s in (self.userdb, self.client, self.lmtp) if s]
            return all(s.exists() for s in sockets) and "starting up" in self.log()

        wait_for(ready, 20, "dovecot's sockets")
        return self

    def stop(self):
        self.process.kill(15)
        self.process.wait(20)

    def messages(self, user, domain="here.test"):
        """What LMTP has put into a user's mailbox."""
        new = self.mail / domain / user / "new"
        return [p.read_bytes() for p in sorted(new.iterdir())] if new.exists() else []

    def log(self):
        return self.process.log()
