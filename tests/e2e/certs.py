"""Certificates for tests, made by openssl: an authority, and certificates it signed.

    ca = make_ca(directory)
    cert = make_cert(directory, ["mx.test", "*.mx.test"], ca)
    cert.fullchain, cert.key     # PEM files; cert.fingerprint() is the SHA-256 in hex
    make_cert(directory, ["mx.test"])                    # self-signed
    make_cert(directory, ["mx.test"], ca, start=-60, days=30)    # expired 30 days ago
    make_cert(directory, ["mx.test"], ca, start=30)      # valid in 30 days
"""

import hashlib
import os
import pathlib
import ssl
import subprocess

import harness


class Cert:
    def __init__(self, pem, key, fullchain):
        self.pem = pem
        self.key = key
        self.fullchain = fullchain

    def fingerprint(self):
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(self.pem.read_text())).hexdigest()

    def install(self, certs_dir, name):
        """Puts it where chasq looks for its own: CERTS_DIR/NAME/fullchain.pem and privkey.pem."""
        d = pathlib.Path(certs_dir) / name
        d.mkdir(parents=True, exist_ok=True)
        for what, source in (("fullchain.pem", self.fullchain), ("privkey.pem", self.key)):
            new = d / (what + ".new")
            new.write_bytes(source.read_bytes())
            new.rename(d / what)
        return d


def _openssl(*args, start=0):
    argv = [*(harness.at_time(f"{start:+d}d") if start else []), "openssl", *map(str, args)]
    done = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, f"{argv}: {done.stderr}"


def _fresh(directory, stem):
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    i = 0
    while (directory / f"{stem}{i}.pem").exists():
        i += 1
    return directory / f"{stem}{i}"


def _key(path, kind):
    if kind == "ec":
        _openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path)
    else:
        _openssl("genrsa", "-out", path, "2048")
    os.chmod(path, 0o600)


def make_ca(directory, name="Test Authority", key="ec", days=3650, start=0):
    """A root certificate; .pem is what to trust."""
    base = _fresh(directory, "ca")
    pem, keyfile = base.with_suffix(".pem"), base.with_suffix(".key")
    _key(keyfile, key)
    _openssl("req", "-x509", "-new", "-key", keyfile, "-sha256", "-days", days, "-subj", f"/O=Test/CN={name}",
             "-addext", "keyUsage=critical,keyCertSign,cRLSign", "-out", pem, start=start)
    return Cert(pem, keyfile, pem)


def make_cert(directory, names, ca=None, key="ec", days=90, start=0):
    """A certificate for host names (or IP addresses), signed by ca, or by itself. start is in days
    from now. fullchain holds the certificate, and ca's when ca is no root."""
    base = _fresh(directory, "cert")
    pem, keyfile, csr, ext = (base.with_suffix(s) for s in (".pem", ".key", ".csr", ".ext"))
    _key(keyfile, key)
    alt = ",".join(("IP:" if n.replace(".", "").isdigit() or ":" in n else "DNS:") + n for n in names)
    ext.write_text(f"subjectAltName={alt}\nbasicConstraints=critical,CA:FALSE\n"
                   "extendedKeyUsage=serverAuth,clientAuth\n")
    _openssl("req", "-new", "-key", keyfile, "-subj", f"/CN={names[0][:60]}", "-out", csr)
    sign = (["-signkey", keyfile] if ca is None else
            ["-CA", ca.pem, "-CAkey", ca.key, "-set_serial", str(int.from_bytes(os.urandom(8), "big") >> 1)])
    _openssl("x509", "-req", "-in", csr, *sign, "-sha256", "-days", days, "-extfile", ext, "-out", pem,
             start=start)
    fullchain = base.with_suffix(".fullchain")
    fullchain.write_text(pem.read_text())
    return Cert(pem, keyfile, fullchain)
