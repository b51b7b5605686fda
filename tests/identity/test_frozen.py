"""A client that freezes is found out over TLS as well: its heartbeats stop, and what it controlled is made safe."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

import gateway
from gateway.server.admission import Admission
from gateway.server.reception import Reception
from gateway.server.registry import GatewayService
from tests.identity.kit import Pairing
from tests.server.kept import Box, Client, until


@pytest.mark.slow
def test_a_client_that_freezes_leaves_its_devices_safe_over_tls(tmp_path: Path) -> None:
    pairing, box = Pairing(tmp_path), Box("box1")
    service = GatewayService({"box1": box})
    admission = Admission(pairing.clients)
    introduce = Reception(service.keeper, admission).introduce
    with gateway.Server(service, pairing.listen_url, strict=True, introduce=introduce) as server:
        service.keeper.start()
        client = Client("hold", pairing.url_of(server.url), "box1")
        try:
            client.hear()
            time.sleep(6)  # it is heard all the while, though nobody calls anything
            assert box.what() == ["set 5"]
            begin = time.monotonic()
            client.signal(signal.SIGSTOP)
            until(lambda: "safe" in box.what())
            took = box.done[-1][0] - begin
            print(f"client frozen over TLS: safe commanded after {took:.3f} s")
            assert took < 10.0, "by default within five seconds, on a machine that is not held up"
            assert service.lease_status("box1")["state"] == "free"
        finally:
            client.end()
            service.keeper.close()
