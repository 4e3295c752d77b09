"""Checkpoints that try to run code: each command refuses them in one line, and none of the code runs.

Each payload would create a marker file: from the pickle of an otherwise valid checkpoint, from a file of another kind
that torch or Python would open, or from a class that the config in the checkpoint names.
"""

import contextlib
import io
import itertools
import json
import pickle
import random
import sys
import tarfile
import zipfile
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import safetensors.torch
import torch
from chaos.common import Outcome, command, saved, tiny_datasets, train
from chaos.gadgets import GADGETS, Marker, Reduced, text
from PIL import Image, ImageDraw

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn.checkpoint import safetensors as shared

COMMANDS = {
    "predict": ["predict", "evil.ckpt", "image.png"],
    "export": ["export", "evil.ckpt"],
    "validate": ["validate", "--ckpt_path", "evil.ckpt"],
    "test": ["test", "--ckpt_path", "evil.ckpt"],
    "fit": ["fit", "--ckpt_path", "evil.ckpt"],
}


def in_checkpoint(sound: bytes, gadget: bytes) -> bytes:
    """Add a gadget to the pickle of a valid checkpoint."""
    return rewrite(sound, lambda pickled: pickled[:-2] + text("more") + gadget + b"u.")


def rewrite(
    archive: bytes,
    change: Callable[[bytes], bytes],
    compression: int = zipfile.ZIP_STORED,
    record: str = "/data.pkl",
) -> bytes:
    """Return an archive of torch with a changed pickle, or another changed record."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(file, "w", compression) as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, change(data) if name.endswith(record) else data)
    return file.getvalue()


# Files of other kinds

Forgery = Callable[[bytes, Marker], bytes]


def legacy(marker: Marker) -> bytes:
    file = io.BytesIO()
    torch.save({checkpoints.KEY: Reduced(marker.shell)}, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


def tar(marker: Marker) -> bytes:
    """The oldest format of torch."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for member in ("storages", "tensors", "pickle"):
            data = pickle.dumps(Reduced(marker.shell), 2)
            info = tarfile.TarInfo(member)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def script(marker: Marker) -> bytes:
    """A TorchScript program that runs when it is loaded."""
    code = (
        "class Evil(Module):\n  __parameters__ = []\n  __buffers__ = []\n  training : bool\n"
        "  _is_full_backward_hook : Optional[bool]\n"
        "  def __getstate__(self: __torch__.Evil) -> int:\n    return 1\n"
        "  def __setstate__(self: __torch__.Evil,\n    state: int) -> NoneType:\n    self.training = False\n"
        f"    torch.save(state, {json.dumps(str(marker.path))})\n    return None\n"
    )
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02c__torch__\nEvil\nq\x00)\x81K\x01bq\x01.")
        archive.writestr("archive/code/__torch__.py", code)
        archive.writestr("archive/constants.pkl", b"\x80\x02).")
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    return file.getvalue()


def outside(sound: bytes, marker: Marker) -> bytes:
    """A record with a path outside of the archive."""
    file = io.BytesIO(sound)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(f"archive/../..{marker.path}", "x")
    return file.getvalue()


def twice(sound: bytes, marker: Marker, evil_first: bool) -> bytes:
    """Two pickles of the same name: readers of archives differ in which one they take."""
    pickles = [b"\x80\x02}.", b"\x80\x02" + GADGETS["os.system"](marker) + b"."]
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickles[evil_first])
        archive.writestr("archive/date.pkl", pickles[not evil_first])
        archive.writestr("archive/version", "3\n")
    return file.getvalue().replace(b"date.pkl", b"data.pkl")


def of_two_names(sound: bytes, marker: Marker) -> bytes:
    """A record with another name in its header than in the directory of the archive."""
    evil = in_checkpoint(sound, GADGETS["os.system"](marker))
    return evil.replace(b"/data.pkl", b"/safe.pkl", 1)


def two_archives(sound: bytes, marker: Marker) -> bytes:
    """One archive after another: some readers start at the end, some at the beginning."""
    return in_checkpoint(sound, GADGETS["os.system"](marker)) + sound


def jsonpickle(marker: Marker) -> bytes:
    metadata = {"py/reduce": [{"py/function": "os.system"}, {"py/tuple": [marker.shell]}]}
    return safetensors.torch.save({"a": torch.zeros(1)}, {checkpoints.KEY: json.dumps(metadata)})


FORGERIES: dict[str, Forgery] = {
    **{f"a bare pickle of protocol {n}": lambda _, m, n=n: pickle.dumps(Reduced(m.shell), n) for n in range(6)},
    **{
        f"an archive of protocol {n}": lambda sound, m, n=n: rewrite(sound, lambda _: pickle.dumps(Reduced(m.shell), n))
        for n in range(6)
    },
    "a legacy file": lambda _, m: legacy(m),
    "a tar file": lambda _, m: tar(m),
    "TorchScript": lambda _, m: script(m),
    "a record outside": outside,
    "two pickles, the first evil": lambda sound, m: twice(sound, m, evil_first=True),
    "two pickles, the last evil": lambda sound, m: twice(sound, m, evil_first=False),
    "a record of two names": of_two_names,
    "two archives": two_archives,
    "a compressed archive": lambda sound, m: rewrite(sound, lambda pickled: pickled * 1000, zipfile.ZIP_DEFLATED),
    "safetensors with an object": lambda _, m: jsonpickle(m),
    "safetensors with a pickle": lambda _, m: safetensors.torch.save({"a": torch.zeros(1)}, {"pickle": m.shell}),
    "a YAML file": lambda _, m: f'!!python/object/apply:os.system ["{m.shell}"]\n'.encode(),
    "a Python file": lambda _, m: m.python.encode(),
    "a shell script": lambda _, m: f"#!/bin/sh\n{m.shell}\n".encode(),
}

# Classes in the config of a checkpoint

#: Where a config can name a class.
PLACES: dict[str, Callable[[dict[str, Any], dict[str, Any]], None]] = {
    "model": lambda config, evil: config.update(model=evil),
    "data": lambda config, evil: config.update(data=evil),
    "optimizer": lambda config, evil: config["model"]["init_args"].update(optimizer=evil),
    "scheduler": lambda config, evil: config["model"]["init_args"].update(scheduler=evil),
    "augment": lambda config, evil: config["data"]["init_args"].update(augment=evil),
    "callbacks": lambda config, evil: config["trainer"].update(callbacks=[evil]),
    "logger": lambda config, evil: config["trainer"].update(logger=evil),
    "profiler": lambda config, evil: config["trainer"].update(profiler=evil),
    "strategy": lambda config, evil: config["trainer"].update(strategy=evil),
    "plugins": lambda config, evil: config["trainer"].update(plugins=[evil]),
    "accelerator": lambda config, evil: config["trainer"].update(accelerator=evil),
    "precision": lambda config, evil: config["trainer"].update(precision=evil),
    "plots": lambda config, evil: config.update(plots=evil),
    "another section": lambda config, evil: config.update(evil=evil),
}
CLASSES: dict[str, Callable[[Marker], Any]] = {
    "os.system": lambda m: {"class_path": "os.system", "init_args": {"command": m.shell}},
    "subprocess.Popen": lambda m: {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", str(m.path)]}},
    "a module beside it": lambda m: {"class_path": f"{m.module}.Evil"},
    "a module beside it, by its name alone": lambda m: f"{m.module}.Evil",
    "a tag of YAML": lambda m: f"!!python/object/apply:os.system ['{m.shell}']",
}


@dataclass(frozen=True)
class Payload:
    """A checkpoint that tries to create a marker file.

    Attributes:
        make: Makes the file from the bytes of a valid checkpoint, its content, and the marker.
        may_be_ignored: Whether a command may succeed: if it does not use what the payload has changed.
    """

    make: Callable[[bytes, dict[str, Any], Marker], bytes]
    may_be_ignored: bool = False


def _described(place: str, evil: str, dump: Callable[[dict[str, Any]], bytes]) -> Payload:
    def make(_: bytes, content: dict[str, Any], marker: Marker) -> bytes:
        content = deepcopy(content)
        PLACES[place](content[checkpoints.KEY]["config"], CLASSES[evil](marker))
        return dump(content)

    return Payload(make, may_be_ignored=True)


def _payloads() -> dict[str, Payload]:
    """Return all payloads by name."""
    pickled = {
        f"{title} in a pickle": Payload(lambda sound, _, m, gadget=gadget: in_checkpoint(sound, gadget(m)))
        for title, gadget in GADGETS.items()
    }
    forged = {title: Payload(lambda sound, _, m, forge=forge: forge(sound, m)) for title, forge in FORGERIES.items()}
    described = {
        f"{evil} as {place}": _described(place, evil, shared.dump if number % 3 == 2 else saved)
        for number, (place, evil) in enumerate(itertools.product(PLACES, CLASSES))
    }
    return {**pickled, **forged, **described}


PAYLOADS = _payloads()


def run(tries: int, seed: int, folder: Path) -> Outcome:
    """Run commands on payloads: every payload with every command before any is repeated."""
    cases = list(itertools.product(PAYLOADS, COMMANDS))
    random.Random(seed).shuffle(cases)
    lost = []
    with tiny_datasets(folder / "data"):
        run = train(folder, "mnist/fast.yaml", "--model.channels", "8", "--seed_everything", str(seed))
        sound = (run / "checkpoints/last.ckpt").read_bytes()
        content = checkpoints.read(run / "checkpoints/last.ckpt")
        for number, (payload, name) in enumerate(itertools.islice(itertools.cycle(cases), tries)):
            marker = Marker(folder / f"try_{number}" / "MARKER", f"evil_{seed}_{number}")
            marker.path.parent.mkdir()
            if found := _try(PAYLOADS[payload], sound, content, marker, name):
                lost.append(f"{name} with {payload}: {found} (seed {seed}, try {number})")
    return Outcome("checkpoints with malicious pickles", tries, lost)


def _try(payload: Payload, sound: bytes, content: dict[str, Any], marker: Marker, name: str) -> str | None:
    """Return the result of a command with a payload, if it is not the right one."""
    folder = marker.path.parent
    with contextlib.chdir(folder), mock.patch("sys.path", [str(folder), *sys.path]):
        write_files(marker)
        Path("evil.ckpt").write_bytes(payload.make(sound, content, marker))
        try:
            status, err = command(*COMMANDS[name])
        except (Exception, SystemExit) as error:  # noqa: BLE001  # it is reported
            return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    if marker.path.exists():
        return "it ran"
    lines = err.splitlines()
    errors = [line for line in lines if "error" in line.lower()]
    if status == 0 and not errors and payload.may_be_ignored:
        return None
    if status not in (1, 2) or len(errors) != 1 or lines[-1] != errors[0] or "Traceback" in err:
        return f"status {status}, {' | '.join(lines)[:300] or 'no error'}"
    return None


def write_files(marker: Marker) -> None:
    """Write the files that payloads refer to, and an image for `predict`, into the folder of the marker."""
    folder = marker.path.parent
    (folder / f"{marker.module}.py").write_text(f"{marker.python}\nclass Evil: pass\n")
    (folder / "hubconf.py").write_text(f"def evil():\n    {marker.python}\n")
    (folder / "legacy.pth").write_bytes(legacy(marker))
    (folder / "script.pt").write_bytes(script(marker))
    image = Image.new("L", (28, 28))
    ImageDraw.Draw(image).line((14, 4, 14, 23), fill="white", width=3)
    image.save(folder / "image.png")
