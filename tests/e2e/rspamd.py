"""A private rspamd from build/peers, with nothing but its built-in test for the GTUBE pattern."""

import harness
import peers

SPAM = b"XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"

CONF = """
options {{
  pidfile = "{dir}/pid"; control_socket = "{dir}/control"; tempdir = "{dir}"; filters = "";
  disable_hyperscan = true; url_tld = "{dir}/tld";
  dns {{ nameserver = ["127.0.0.1:9"]; timeout = 0.1s; retransmits = 1; }}
}}
logging {{ type = "console"; level = "info"; }}
actions {{ reject = 15; add_header = 6; greylist = 4; }}
lang_detection {{ languages = "{share}/languages"; }}
worker {{ type = "normal"; bind_socket = "127.0.0.1:{port}"; count = 1; }}
"""


class Rspamd:
    def __init__(self, box):
        self.dir = box.dir("rspamd")
        self.port = harness.free_port()
        share = peers.need(peers.ROOT / "usr/share/rspamd")
        libs = peers.ROOT / "usr/lib/rspamd"
        # The whole list takes half a minute to be read.
        (self.dir / "tld").write_text("test\n")
        conf = self.dir / "rspamd.conf"
        conf.write_text(CONF.format(dir=self.dir, share=share, port=self.port))
        self.env = peers.library_env()
        places = dict.fromkeys(("CONFDIR", "RUNDIR", "DBDIR", "LOGDIR"), self.dir)
        places |= {"SHAREDIR": share, "PLUGINSDIR": share / "plugins", "RULESDIR": share / "rules",
                   "LUALIBDIR": share / "lualib"}
        lua = f"{share}/lualib/?.lua;{share}/lualib/?/init.lua;{share}/rules/?.lua;;"
        env = self.env | {f"RSPAMD_{k}": str(v) for k, v in places.items()}
        env |= {"LUA_PATH": lua, "LUA_CPATH": f"{libs}/?.so;;"}
        self.process = box.process([peers.program("usr/bin/rspamd"), "-i", "-f", "-c", conf],
                                   "rspamd", env=env)
        harness.wait_for(lambda: harness.can_connect("127.0.0.1", self.port), 30,
                         lambda: "rspamd\n" + self.process.log())

    def bin(self):
        """A directory with an rspamc that finds its libraries."""
        d = self.dir / "bin"
        d.mkdir()
        rspamc = d / "rspamc"
        rspamc.write_text("#!/bin/sh\nLD_LIBRARY_PATH='{}' exec '{}' \"$@\"\n".format(
            self.env["LD_LIBRARY_PATH"], peers.program("usr/bin/rspamc")))
        rspamc.chmod(0o755)
        return d
