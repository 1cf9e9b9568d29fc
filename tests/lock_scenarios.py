"""The behaviour of locks in any store that has them: each function takes the root of a lake and raises AssertionError if they do not."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import pytest
from nightlog.errors import LockLost, TransientError
from nightlog.lake.lease_stores import lease_store
from nightlog.lake.leases import Lease, acquire, is_held
from nightlog.lake.locks import is_free, locked

LEASE_S = 2.0
HOLDER = """
import sys
from nightlog.errors import LockLost
from nightlog.lake.locks import locked
with locked(sys.argv[1], "shop", lease_s=float(sys.argv[2]), owner="run first") as lock:
    print("held", flush=True)
    for _ in sys.stdin:
        try:
            lock.check()
        except LockLost as error:
            print(error, flush=True)
        else:
            print("held", flush=True)
"""


@contextmanager
def lock_holder(root: str) -> Iterator[subprocess.Popen[str]]:
    """Yield a process that holds the lock of "shop" until its input ends, and answers each line of it by the state of the lock."""
    command = [sys.executable, "-c", HOLDER, root, str(LEASE_S)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def checked(process: subprocess.Popen[str]) -> str:
    """Let the process check its lock. Returns what it prints."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write("check\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


def the_second_waits_for_the_first(root: str) -> None:
    with lock_holder(root) as first:
        holding = f"worked on shop.*run first, process {first.pid} on"
        with pytest.raises(TransientError, match=holding), locked(root, "shop", wait_s=3 * LEASE_S):
            raise AssertionError("a holder that renews its lease keeps it")
        assert not is_free(root, "shop") and is_free(root, "mail")
        with locked(root, "mail", wait_s=0):
            assert not is_free(root, "mail")
        assert is_free(root, "mail")
        first.communicate()
        assert is_free(root, "shop"), "it has released its lock, nobody has to wait for the end of its lease"
    with locked(root, "shop", wait_s=0):
        pass


def a_killed_holder_keeps_the_lock_for_the_length_of_its_lease(root: str) -> None:
    with lock_holder(root) as first:
        first.kill()
        started = time.monotonic()
        with locked(root, "shop", wait_s=60):
            assert time.monotonic() - started >= LEASE_S


def a_stopped_holder_goes_on_only_if_nobody_took_over_its_lock(root: str) -> None:
    with lock_holder(root) as first:
        first.send_signal(signal.SIGSTOP)
        time.sleep(1.5 * LEASE_S)
        first.send_signal(signal.SIGCONT)
        assert checked(first) == "held", "its lease had ended, but nobody else asked for it"
        first.send_signal(signal.SIGSTOP)
        with locked(root, "shop", wait_s=60) as lock:
            first.send_signal(signal.SIGCONT)
            assert checked(first).startswith(f"shop: another process has taken over the lock {root}/.locks/shop.lock")
            lock.check()
        assert checked(first).startswith("shop: another process"), "it does not get the lock back by itself"


def of_many_that_ask_at_once_one_at_a_time_has_the_lock(root: str) -> None:
    inside: list[int] = []
    most: list[int] = []

    def work(number: int) -> None:
        with locked(root, "shop", wait_s=300, lease_s=120):
            inside.append(number)
            most.append(len(inside))
            time.sleep(0.05)
            inside.remove(number)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(12)))
    assert most == [1] * 12


def a_renewal_whose_answer_was_lost_is_no_loss_of_the_lock(root: str) -> None:
    store = lease_store(f"{root}/.locks")
    lease = acquire(store, "shop", 0.0, 60.0, "")
    store.write("shop", replace(lease.content, number=7), lease.version)
    lease.renew()
    lease.release()
    assert not is_held(store, "shop")
    store.write("shop", replace(lease.content, token="other", number=100), lease.version)
    late = Lease(store, "shop", lease.content)
    late.version = lease.version
    with pytest.raises(LockLost):
        late.renew()


SCENARIOS = (
    the_second_waits_for_the_first,
    a_killed_holder_keeps_the_lock_for_the_length_of_its_lease,
    a_stopped_holder_goes_on_only_if_nobody_took_over_its_lock,
    of_many_that_ask_at_once_one_at_a_time_has_the_lock,
    a_renewal_whose_answer_was_lost_is_no_loss_of_the_lock,
)
