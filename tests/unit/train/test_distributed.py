"""What a second process does while the first one works."""

import os
import signal
import socket
import subprocess
import sys

import pytest
from torch.distributed import TCPStore

from parrot.train.distributed import broadcast_from_rank0

SECONDS = 60
WAITING = """
import signal, sys
from parrot.train.distributed import broadcast_from_rank0
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
print("waiting", flush=True)
print(broadcast_from_rank0("word", None))
"""


@pytest.fixture
def second():
    """A process that waits for the first one's word, and the store in which it looks for it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with subprocess.Popen(
        [sys.executable, "-c", WAITING], env=os.environ | place, stdout=subprocess.PIPE, text=True
    ) as process:
        store = TCPStore("127.0.0.1", port, world_size=2, is_master=True)  # returns once the other one is there
        assert process.stdout.readline() == "waiting\n"
        yield process, store
        process.kill()


def test_it_takes_the_first_one_s_word(second):
    process, store = second
    store.set("parrot/word", '{"micro_batch": 4}')
    assert process.communicate(timeout=SECONDS)[0] == "{'micro_batch': 4}\n"


def test_it_hears_a_sigterm(second):
    process, _ = second
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=SECONDS) == 143


def test_a_process_alone_asks_nobody(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert broadcast_from_rank0("word", lambda: 4) == 4
