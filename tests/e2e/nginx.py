"""A private nginx that serves MTA-STS policies over HTTPS, one site an address.

    sites = [Site("127.0.0.21", "far.test", cert, POLICY), ...]
    web = Nginx(box, port, sites)
    sites[0].policy = "..."; web.write(sites[0])     # read anew at the next request

A site answers for mta-sts.DOMAIN; `extra` is nginx configuration that takes the place of how the
policy is served, `type` the media type it comes with. `requests()` counts what was asked of a site.
Needs no rights: all it writes is in the sandbox.
"""

import peers
from harness import can_connect, wait_for

PATH = "/.well-known/mta-sts.txt"

CONF = """
daemon off;
master_process off;
error_log stderr info;
pid {dir}/pid;
events {{ worker_connections 64; }}
http {{
    access_log {dir}/access;
    client_body_temp_path {dir}/tmp-body;
    proxy_temp_path {dir}/tmp-proxy;
    fastcgi_temp_path {dir}/tmp-fastcgi;
    uwsgi_temp_path {dir}/tmp-uwsgi;
    scgi_temp_path {dir}/tmp-scgi;
    types {{ }}
    {servers}
}}
"""

SERVER = """
    server {{
        listen {address}:{port} ssl;
        server_name {host};
        ssl_certificate {cert.fullchain};
        ssl_certificate_key {cert.key};
        ssl_protocols {protocols};
        access_log {dir}/{host}.access;
        default_type {type};
        root {dir}/{host};
        {extra}
    }}
"""


class Site:
    def __init__(self, address, domain, cert, policy="", type="text/plain", extra="",
                 protocols="TLSv1.2 TLSv1.3"):
        self.address = address
        self.domain = domain
        self.host = "mta-sts." + domain
        self.cert = cert
        self.policy = policy
        self.type = type
        self.extra = extra
        self.protocols = protocols


class Nginx:
    def __init__(self, box, port, sites):
        self.box = box
        self.port = port
        self.sites = sites
        self.dir = box.dir("nginx")
        # Started by root it would change to a user who cannot enter the sandbox; with one process it
        # stays what it is.
        for site in sites:
            self.write(site)
        servers = "".join(SERVER.format(dir=self.dir, port=port, **vars(s)) for s in sites)
        (self.dir / "nginx.conf").write_text(CONF.format(dir=self.dir, servers=servers))
        self.start()

    def start(self):
        self.process = self.box.process(
            [peers.program("usr/sbin/nginx"), "-p", self.dir, "-c", self.dir / "nginx.conf",
             "-e", "stderr"], "nginx", env=peers.library_env())

        def ready():
            assert self.process.running(), "nginx ended at start:\n" + self.process.log()
            return all(can_connect(s.address, self.port) for s in self.sites)

        wait_for(ready, 20, "nginx to listen")

    def stop(self):
        self.process.end()

    def write(self, site):
        """Serves what site.policy says now."""
        path = self.dir / site.host / PATH[1:]
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        new.write_bytes(site.policy.encode() if isinstance(site.policy, str) else site.policy)
        new.rename(path)

    def requests(self, site):
        """The request lines that came for a site."""
        path = self.dir / f"{site.host}.access"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line.split('"')[1] for line in lines]
