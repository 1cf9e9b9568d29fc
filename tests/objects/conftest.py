"""A server that speaks S3, for the tests of this folder."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

SERVER = Path(__file__).resolve().parents[2] / "build" / "objects" / "bin" / "python"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[dict[str, str]]:
    """The server's address and a key, in the environment as delta-rs, Arrow and obstore look for them."""
    if not SERVER.exists():
        pytest.skip("no S3 server: `make test-slow` and `make cluster-test` install one in build/objects")
    command = [str(SERVER), str(Path(__file__).with_name("server.py"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        given = {"AWS_ENDPOINT_URL": address, "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1"}
        given |= {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
        with pytest.MonkeyPatch.context() as patch:
            for name, value in given.items():
                patch.setenv(name, value)
            yield given
        assert server.stdin is not None
        server.stdin.close()
