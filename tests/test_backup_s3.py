"""Backups on S3: a real server on this machine, asked over HTTP, as any other would be."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

import statecore
from statecore import StoreFailure
from statecore.backup import take
from statecore.backup.destination import destination_of
from tests.conftest import KEY, environment
from tests.test_backup import write

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("moto") is None or importlib.util.find_spec("s3fs") is None,
        reason="needs moto[server] and s3fs",
    ),
    # The client's event loop ends with the process, with its connections.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

PATIENCE_SECONDS = 60


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """An S3 server, and its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(
        command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    address = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                urllib.request.urlopen(address, timeout=1).close()
                break
            except OSError:
                assert time.monotonic() < until, "the server does not start"
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def place(server: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """A folder in a bucket of its own."""
    import s3fs

    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": server,
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    bucket = f"bucket-{os.urandom(4).hex()}"
    urllib.request.urlopen(
        urllib.request.Request(f"{server}/{bucket}", method="PUT"), timeout=10
    ).close()
    return f"s3://{bucket}/backups/trip"


def test_a_backup_goes_to_s3_and_comes_back(path: Path, place: str, tmp_path: Path) -> None:
    with statecore.open(path, key=KEY) as store:
        write(store, 100)
        take(path, place, events_max=30)
        write(store, 20, 100)
        second = store.backup(place)

    report = statecore.verify_backup(place, key=KEY, key_store=f"{path}-keys")
    pruned = statecore.prune_backup(place)
    result = statecore.restore(place, tmp_path / "restored.db")

    assert (second.events, second.signed) == (20, 120)
    assert (report.findings, report.events, report.head_size) == ([], 120, 120)
    assert (pruned.merged, pruned.made) == (4, 1)
    assert (result.events, result.signed) == (120, 120)
    assert statecore.verify(tmp_path / "restored.db").findings == []
    assert statecore.verify_backup(place).findings == []


def test_of_two_who_make_a_file_one_does(place: str) -> None:
    destination = destination_of(place)

    made = [destination.create("one.segment", data) for data in (b"first", b"second")]

    assert made == [True, False]
    assert destination.read("one.segment") == b"first"
    assert destination.read("one.segment", 3) == b"fir"
    assert destination.sizes() == {"one.segment": 5}
    destination.remove("one.segment")
    destination.remove("one.segment")
    with pytest.raises(statecore.NotFound):
        destination.read("one.segment")


def test_two_backups_at_once_do_no_harm(path: Path, place: str) -> None:
    with statecore.open(path, key=KEY, durability="relaxed") as store:
        write(store, 600)
    failed = []

    def work(size: int) -> None:
        try:
            take(path, place, events_max=size)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(size,)) for size in (60, 60, 75)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    report = statecore.verify_backup(place)
    assert (failed, report.findings, report.events) == ([], [], 600)


def test_a_bucket_that_is_not_there_is_a_typed_error(path: Path, place: str) -> None:
    with statecore.open(path, key=KEY) as store:
        write(store, 1)
        with pytest.raises(StoreFailure):
            store.backup("s3://no-such-bucket-of-ours/trip")
