"""A time-stamp authority of the tests: a certificate authority of its own, and `openssl ts` behind a small server."""

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SETTINGS = """
[req]
distinguished_name = name
[name]
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
[signer]
extendedKeyUsage = critical, timeStamping
[tsa]
default_tsa = here
[here]
serial = {folder}/serial
signer_cert = {folder}/signer.pem
certs = {folder}/ca.pem
signer_key = {folder}/signer.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = {digests}
"""
NEW_KEY = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]


class Authority:
    """One that answers at an address; digests: of queries that it does not refuse."""

    def __init__(self, folder: Path, digests: str = "sha256") -> None:
        self.settings, self.certificates = folder / "settings.cnf", folder / "ca.pem"
        self.settings.write_text(SETTINGS.format(folder=folder, digests=digests))
        (folder / "serial").write_text("01")
        authority = ["-x509", "-keyout", folder / "ca.key", "-out", folder / "ca.pem", "-subj", "/CN=CA"]
        self.openssl(*NEW_KEY, *authority, "-config", self.settings, "-extensions", "ca")
        signer = ["-keyout", folder / "signer.key", "-out", folder / "signer.csr", "-subj", "/CN=Test authority"]
        self.openssl(*NEW_KEY, *signer, "-config", self.settings)
        signed = ["-CA", folder / "ca.pem", "-CAkey", folder / "ca.key", "-CAcreateserial"]
        asked = ["x509", "-req", "-in", folder / "signer.csr", "-out", folder / "signer.pem"]
        self.openssl(*asked, *signed, "-extfile", self.settings, "-extensions", "signer")

    def openssl(self, *arguments: object) -> None:
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=60)

    def reply(self, query: bytes, folder: Path) -> bytes:
        (folder / "query.tsq").write_bytes(query)
        files = ["-queryfile", folder / "query.tsq", "-out", folder / "reply.tsr"]
        self.openssl("ts", "-reply", "-config", self.settings, "-section", "here", *files)
        return (folder / "reply.tsr").read_bytes()

    @contextmanager
    def serving(self, folder: Path) -> Iterator[str]:
        """Yield the address at which it answers while the block runs."""
        authority = self

        class Answers(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.headers["Content-Type"] == "application/timestamp-query"
                token = authority.reply(self.rfile.read(int(self.headers["Content-Length"])), folder)
                self.send_response(200)
                self.send_header("Content-Type", "application/timestamp-reply")
                self.end_headers()
                self.wfile.write(token)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/tsr"
        finally:
            server.shutdown()
            server.server_close()
