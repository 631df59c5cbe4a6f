"""A cluster with the HTTP service, plain or TLS, for tests that speak to it as clients do.

SPDX-License-Identifier: Apache-2.0
"""
import http.client
import json
import os
import socket
import ssl
import subprocess
import time
from urllib.parse import urlsplit

import real

MODEL = "adder"
NODES = [
    dict(name="desk", roles=["coordinator", "batcher", "trunk", "experts", "gateway"], memory="256MiB"),
    dict(name="attic", roles=["trunk", "experts"], memory="256MiB"),
]
QUESTION = "12+34=?"
SOON = 10  # seconds for what happens at once, on a machine that is busy


def chat(question=QUESTION, **more):
    return dict(model=MODEL, messages=[dict(role="user", content=question)], temperature=0, **more)


def wait_until(what, holds, seconds=SOON):
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.05)


def make_certificate(folder, common_name="localhost"):
    """New certificate and key in the folder, in place of those that are there: (certificate, key)."""
    paths = [os.path.join(folder, name) for name in ("tls.pem", "tls.key")]
    fresh = [path + ".new" for path in paths]
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
                    "2", "-subj", f"/CN={common_name}", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-out",
                    fresh[0], "-keyout", fresh[1]], check=True, capture_output=True)
    os.chmod(fresh[1], 0o600)
    for new, path in zip(fresh, paths):
        os.rename(new, path)
    return paths


class Service:
    def __init__(self, extra=(), certificate=None):
        lines = ["[gateway]", "port = 0"]
        self.certificate = None
        if certificate:
            self.certificate, key = certificate
            lines += [f'tls_certificate = "{self.certificate}"', f'tls_key = "{key}"']
        self.cluster = real.LocalCluster(real.Program.path, real.ADDER, nodes=NODES, extra=[*lines, *extra])
        self.cluster.up()

    def down(self):
        self.cluster.__exit__()

    @property
    def url(self):
        with open(self.cluster.state("run", "gateway.address")) as file:
            return file.read().strip()

    @property
    def place(self):
        parts = urlsplit(self.url)
        return parts.hostname, parts.port

    @property
    def pid(self):
        return self.cluster.pid("gateway")

    def keys(self, *arguments):
        return self.cluster.run("keys", "api", arguments[0], self.cluster.file, *arguments[1:]).stdout.strip()

    def log(self):
        with open(self.cluster.state("log", "gateway.log")) as file:
            return file.read()

    def trust(self, **more):
        context = ssl.create_default_context(cafile=self.certificate)
        for name, value in more.items():
            setattr(context, name, value)
        return context

    def connect(self, timeout=SOON, receive_bytes=None):
        """A connection without TLS."""
        s = socket.socket()
        s.settimeout(timeout)
        if receive_bytes is not None:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        s.connect(self.place)
        return s

    def connection(self, timeout=60):
        host, port = self.place
        if self.certificate:
            return http.client.HTTPSConnection(host, port, timeout=timeout, context=self.trust())
        return http.client.HTTPConnection(host, port, timeout=timeout)

    def call(self, method, path, body=None, key=None, connection=None, headers=None):
        """(status, headers, body) of one request, on a connection of its own or the one given."""
        used = connection or self.connection()
        try:
            fields = dict(headers or {})
            if body is not None:
                fields["Content-Type"] = "application/json"
            if key:
                fields["Authorization"] = "Bearer " + key
            if isinstance(body, (dict, list)):
                body = json.dumps(body)
            used.request(method, path, body=body, headers=fields)
            response = used.getresponse()
            return response.status, dict(response.getheaders()), response.read()
        finally:
            if connection is None:
                used.close()

    def metric(self, name, key=None):
        """The sum of a metric over its series."""
        text = self.call("GET", "/metrics", key=key)[2].decode()
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines()
                   if line.startswith(name) and line[len(name):len(name) + 1] in "{ ")
