from chaos import concurrency

#: A fetch without the lock, which makes the folder besides.
UNLOCKED = """
import os
from contextlib import nullcontext
data.load.__globals__["locked"] = nullcontext
os.makedirs(sys.argv[3] + "/MNIST/raw", exist_ok=True)
"""
#: The same folder for every run, and files that are written in place and cut off.
CARELESS = """
import os
from contextlib import contextmanager

@contextmanager
def atomic_write(path):
    yield path
    os.truncate(path, 1)

class Run:
    @classmethod
    def create(cls, root, name):
        run = cls()
        run.folder = root / name / "version_0"
        run.folder.mkdir(parents=True, exist_ok=True)
        return run
"""


def test_concurrent_processes_lose_nothing(tmp_path):
    outcome = concurrency.run(6, seed=0, folder=tmp_path)

    assert outcome.lost == []
    assert outcome.survived == 6


def test_repeated_fetches_and_partly_written_files_are_reported(tmp_path, monkeypatch):
    start, _, end = concurrency.FETCH.partition("print(")
    monkeypatch.setattr(concurrency, "FETCH", f"{start}{UNLOCKED}print({end}")
    start, _, end = concurrency.WORK.partition("from lightning_cnn")
    monkeypatch.setattr(concurrency, "WORK", start + CARELESS + end[end.index("\ndef work") :])

    lost = concurrency.run(6, seed=0, folder=tmp_path).lost

    for fault in ("fetched so often: ", "run folders: made ", "partly written, with so many characters: "):
        assert any(fault in line for line in lost), fault
