"""Encrypted connections and tokens."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

import iterand
from client_helpers import FEW, LENGTH, collect
from conftest import Server
from iterand import Tls


def test_token_and_tls(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the certificate, is not installed")
    key, certificate, secret = tmp_path / "key.pem", tmp_path / "certificate.pem", tmp_path / "token"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    secret.write_text("open sesame\n")
    files = ["--tls-cert", str(certificate), "--tls-key", str(key), "--token-file", str(secret)]
    server = Server(*files)
    tls = Tls(ca_file=certificate, server_name="localhost")
    try:
        rows = collect(server.address, recipe="uniform", count=3, tls=tls, token="open sesame")
        assert rows.shape == (3, LENGTH)
        assert iterand.describe(tls=tls, token=secret.read_text(), server=server.address).engine_version >= 1
        with pytest.raises(iterand.Unauthenticated, match="token"):
            iterand.describe(tls=tls, token="open barley", server=server.address)
        with pytest.raises(iterand.Unauthenticated):
            collect(server.address, count=1, tls=tls)
        with pytest.raises(iterand.Unavailable):
            iterand.describe(tls=True, token="open sesame", retry=FEW, server=server.address)
    finally:
        server.stop()
