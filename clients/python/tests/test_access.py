"""Encrypted connections, tokens and client certificates, and the files that they are in."""

from __future__ import annotations

import functools
import logging
import multiprocessing
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, cast

import pytest

import iterand
from client_helpers import FEW, LENGTH, collect
from conftest import Server
from iterand import Tls, _secrets

openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl, which makes certificates, is absent")


class Files(NamedTuple):
    """An authority, and certificates for a server and a client that it has signed."""

    ca: Path
    server_cert: Path
    server_key: Path
    client_cert: Path
    client_key: Path


def run(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("certificates")

    def signed(name: str) -> tuple[Path, Path]:
        certificate, key, request = (folder / f"{name}.{kind}" for kind in ("pem", "key", "csr"))
        names = folder / f"{name}.ext"
        names.write_text("subjectAltName=DNS:localhost")
        run("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", key, "-out", request)
        signing = ["-CA", folder / "ca.pem", "-CAkey", folder / "ca.key", "-CAcreateserial", "-days", "1"]
        run("x509", "-req", "-in", request, *signing, "-extfile", names, "-out", certificate)
        return certificate, key

    authority = ["-days", "1", "-subj", "/CN=authority", "-keyout", folder / "ca.key", "-out", folder / "ca.pem"]
    run("req", "-x509", "-newkey", "rsa:2048", "-nodes", *authority)
    return Files(folder / "ca.pem", *signed("server"), *signed("client"))


@pytest.fixture(autouse=True)
def warnings_of_each_test() -> Iterator[None]:
    _secrets._warn_once.cache_clear()
    yield


@openssl
def test_token_and_tls(tmp_path: Path, files: Files) -> None:
    secret = tmp_path / "token"
    secret.write_text("open sesame\n")
    server = Server(
        "--tls-cert", str(files.server_cert), "--tls-key", str(files.server_key), "--token-file", str(secret)
    )
    tls = Tls(ca_file=files.ca, server_name="localhost")
    try:
        rows = collect(server.address, recipe="uniform", count=3, tls=tls, token="open sesame")
        assert rows.shape == (3, LENGTH)
        assert iterand.describe(server=server.address, tls=tls, token=secret.read_text()).engine_version >= 1
        assert iterand.describe(server=server.address, tls=tls, token_file=secret).engine_version >= 1
        with pytest.raises(iterand.Unauthenticated, match="token") as wrong:
            iterand.describe(server=server.address, tls=tls, token="open barley")
        assert wrong.value.reason == "TOKEN_INVALID"
        with pytest.raises(iterand.Unauthenticated) as missing:
            collect(server.address, count=1, tls=tls)
        assert missing.value.reason == "TOKEN_MISSING"
        with pytest.raises(iterand.Unavailable):
            iterand.describe(server=server.address, tls=True, token="open sesame", retry=FEW)
    finally:
        server.stop()


@openssl
def test_client_certificates(files: Files) -> None:
    server = Server(
        "--tls-cert", str(files.server_cert), "--tls-key", str(files.server_key), "--tls-client-ca", str(files.ca)
    )
    trusting = Tls(ca_file=files.ca, server_name="localhost")
    known = Tls(files.ca, files.client_cert, files.client_key, server_name="localhost")
    try:
        assert collect(server.address, recipe="uniform", count=3, tls=known).shape == (3, LENGTH)
        with pytest.raises(iterand.Unavailable):
            iterand.describe(server=server.address, tls=trusting, retry=FEW)
        live = [sys.executable, "-m", "iterand.live", "--server", server.address, "--batches", "1", "--length", "64"]
        live += ["--ca-file", str(files.ca), "--tls-server-name", "localhost"]
        certificate = ["--tls-cert", str(files.client_cert), "--tls-key", str(files.client_key)]
        done = subprocess.run([*live, *certificate], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert subprocess.run([*live, "--connect-timeout", "0.5"], capture_output=True, timeout=60).returncode == 1
    finally:
        server.stop()


@openssl
def test_files_that_no_handshake_could_use_are_refused_at_once(tmp_path: Path, files: Files) -> None:
    nobody = "127.0.0.1:1"
    empty = tmp_path / "empty.pem"
    empty.write_text("no certificate\n")
    encrypted = tmp_path / "encrypted.key"
    run("rsa", "-in", files.client_key, "-aes128", "-passout", "pass:secret", "-out", encrypted)
    for wrong, message in (
        (Tls(ca_file=empty), f"{empty} has no PEM certificate"),
        (Tls(ca_file=tmp_path / "missing.pem"), "missing.pem cannot be read"),
        (Tls(cert_file=empty, key_file=files.client_key), str(empty)),
        (Tls(cert_file=files.client_cert, key_file=files.server_key), f"{files.server_key} must be .* its key"),
        (Tls(cert_file=files.client_cert, key_file=encrypted), "without a passphrase"),
    ):
        with pytest.raises(iterand.InvalidArgument, match=message):
            iterand.stream(server=nobody, tls=wrong)
    for half in ({"cert_file": files.client_cert}, {"key_file": files.client_key}):
        with pytest.raises(iterand.InvalidArgument, match="needs both"):
            Tls(**half)


@openssl
def test_a_key_that_everyone_can_read_is_reported_once(files: Files, caplog: pytest.LogCaptureFixture) -> None:
    files.client_key.chmod(0o604)
    tls = Tls(files.ca, files.client_cert, files.client_key)
    with caplog.at_level(logging.WARNING, "iterand"):
        for _ in range(3):
            iterand.Client("127.0.0.1:1", tls=tls).close()
    assert [record.getMessage() for record in caplog.records] == [
        f"every user of this machine may read the secret in {files.client_key} (mode 0604): chmod o-r ends that"
    ]
    caplog.clear()
    files.client_key.chmod(0o640)
    _secrets._warn_once.cache_clear()
    with caplog.at_level(logging.WARNING, "iterand"):
        iterand.Client("127.0.0.1:1", tls=tls).close()
    assert not caplog.records


@pytest.mark.parametrize(
    ("content", "token"),
    [
        (b"open sesame", "open sesame"),
        (b"  open sesame \r\n", "open sesame"),
        (b"# new since May\n\n\tfirst\nsecond\n", "first"),
        (b"first\nnot \xff printable\n", "first"),
    ],
)
def test_the_first_token_of_a_file_is_sent(tmp_path: Path, content: bytes, token: str) -> None:
    file = tmp_path / "tokens"
    file.write_bytes(content)
    assert _secrets.read_token(file) == token
    client = iterand.Client("127.0.0.1:1", token_file=str(file))
    assert client._connection._metadata == (("authorization", f"Bearer {token}"),)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no token; one per line"),
        (b"\n# nothing\n", "holds no token; one per line"),
        (b"\nse\xc3\xa9same\n", "line 2: .* printable ASCII"),
        (b"a\0b", "line 1: .* printable ASCII"),
        (b"x" * 4097, "line 1: .* at most 4096"),
        (b"\n" * 65537, "too large"),
        (None, "cannot be read"),
    ],
)
def test_files_without_a_token_are_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    file = tmp_path / "tokens"
    if content is not None:
        file.write_bytes(content)
    nobody = "127.0.0.1:1"
    for call in (
        functools.partial(iterand.stream, server=nobody),
        functools.partial(iterand.describe, server=nobody),
        functools.partial(iterand.Client, nobody),
    ):
        with pytest.raises(iterand.InvalidArgument, match=f"token file {file}.*{message}") as found:
            call(token_file=file)
        assert "same" not in str(found.value)


def test_a_token_is_one_line_and_given_once(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text("first\nsecond\n")
    for wrong in (file.read_text(), "", " ", "x" * 4097):
        with pytest.raises(iterand.InvalidArgument, match=r"in one line, .* token_file= reads the first"):
            iterand.Client("127.0.0.1:1", token=wrong)
    with pytest.raises(iterand.InvalidArgument, match="must be one of them"):
        iterand.Client("127.0.0.1:1", token="first", token_file=file)
    with pytest.raises(iterand.InvalidArgument, match="token file"):
        iterand.Client("127.0.0.1:1", token_file=cast("str", 5.5))


def test_workers_say_nothing_of_files(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text("secret\n")
    file.chmod(0o644)
    program = (
        "import multiprocessing, sys\n"
        "from iterand._secrets import read_token\n"
        "if __name__ == '__main__':\n"
        "    read_token(sys.argv[1])\n"
        "    child = multiprocessing.get_context('spawn').Process(target=read_token, args=(sys.argv[1],))\n"
        "    child.start()\n"
        "    child.join()\n"
        "    sys.exit(child.exitcode)\n"
    )
    script = tmp_path / "script.py"
    script.write_text(program)
    done = subprocess.run([sys.executable, str(script), str(file)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("may read the secret") == 1
    assert multiprocessing.parent_process() is None
