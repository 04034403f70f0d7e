"""A private Dovecot of build/peers: its authentication server, without mail protocols."""

import grp
import os
import pwd

from harness import wait_for
from peers import ROOT, library_env, program

CONF = """
base_dir = {run}
state_dir = {state}
log_path = /dev/stderr
libexec_dir = {root}/usr/lib/dovecot
default_internal_user = {user}
default_internal_group = {group}
default_login_user = {user}
import_environment = $import_environment LD_LIBRARY_PATH
protocols =
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


class Dovecot:
    """users: names to passwords. The sockets are run/auth-userdb and run/CLIENT."""

    def __init__(self, box, users, client="auth-client", extra=""):
        self.box = box
        self.dir = box.dir("dovecot")
        self.run = self.dir / "run"
        self.run.mkdir()
        self.userdb, self.client = self.run / "auth-userdb", self.run / client
        self.users = self.dir / "users"
        self.set_users(users)
        self.conf = self.dir / "dovecot.conf"
        self.conf.write_text(CONF.format(
            run=self.run, state=self.dir / "state", root=ROOT, users=self.users, client=client,
            user=pwd.getpwuid(os.getuid()).pw_name, group=grp.getgrgid(os.getgid()).gr_name, extra=extra))
        self.process = None

    def set_users(self, users):
        self.users.write_text("".join(f"{u}:{{PLAIN}}{p}:65534:65534::/nonexistent::\n"
                                      for u, p in users.items()))

    def start(self):
        # dovecot would look for its doveconf where packages install it: this one starts it instead.
        self.process = self.box.process(
            [program("usr/bin/doveconf"), "-c", self.conf, "-f", "service=master", "-e",
             program("usr/sbin/dovecot"), "-F", "-c", self.conf], "dovecot", env=library_env())

        def ready():
            assert self.process.running(), "dovecot ended at start:\n" + self.log()
            return self.userdb.exists() and self.client.exists() and "starting up" in self.log()

        wait_for(ready, 20, "dovecot's sockets")
        return self

    def stop(self):
        self.process.kill(15)
        self.process.wait(20)

    def log(self):
        return self.process.log()
