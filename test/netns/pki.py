# SPDX-License-Identifier: GPL-2.0-or-later
"""pki.py - a small certification authority in the case's directory, made by openssl."""
import os

import lab


class Authority:
    """Issues certificates; each is (certificate, key, certificate of the authority), as paths."""

    def __init__(self, case, name="ca"):
        lab.need("openssl")
        self.case, self.name = case, name
        self.dir = case.file(name)
        os.makedirs(self.dir)
        self.cert, self.key = f"{self.dir}/ca.pem", f"{self.dir}/ca.key"
        self.openssl("req", "-x509", *self.algorithm("ec"), "-nodes", "-keyout", self.key, "-out", self.cert, "-subj",
                     f"/O=Test/CN={name}", "-days", "30", "-addext", "keyUsage=critical,keyCertSign,cRLSign")

    @staticmethod
    def algorithm(kind):
        return ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256") if kind == "ec" else ("-newkey", "rsa:2048")

    def openssl(self, *args):
        self.case.shell(["openssl", *args])

    def issue(self, name, san=True, days=30, kind="ec", more=()):
        """For a host of that name. days: -1 has expired already. more: extensions as openssl.cnf has them."""
        base = f"{self.dir}/{name}.{len(os.listdir(self.dir))}"
        extension = ["-addext", f"subjectAltName=DNS:{name}"] if san else []
        for e in more:
            extension += ["-addext", e]
        self.openssl("req", *self.algorithm(kind), "-nodes", "-keyout", base + ".key", "-out", base + ".csr", "-subj",
                     f"/O=Test/CN={name}", *extension)
        self.openssl("x509", "-req", "-in", base + ".csr", "-CA", self.cert, "-CAkey", self.key, "-copy_extensions", "copy",
                     "-days", str(days), "-out", base + ".pem")
        os.chmod(base + ".key", 0o600)
        return base + ".pem", base + ".key", self.cert
