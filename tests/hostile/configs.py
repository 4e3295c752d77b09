"""Configs that mean harm, as `--config`, and as the `config.yaml` of a run that is resumed or tested."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml
from hostile.common import OUTSIDE, Case

from lightning_cnn.files import shipped_config

HUGE = 10**9
#: Always refused in the end, so that nothing is trained.
_REFUSED_LATE = ("--model.std", "0")
_CNN = ("fit", "--config", str(shipped_config("mnist/cnn.yaml")), "--config", "c.yaml", *_REFUSED_LATE)
_BOMB = "\n".join(["a0: &a0 [x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))])
_MERGES = "\n".join(
    ["a0: &a0 {x: 1}", *(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 12))]
)
_LIGHTNING = "class_path: lightning.pytorch"


TEXTS: dict[str, str | bytes] = {
    "a bomb of aliases": _BOMB,
    "a bomb of merges": _MERGES,
    "a short bomb": f"a: &a [&b [&c [{'x,' * 8}]{',*c' * 7}]{',*b' * 7}]\nb: [{'*a,' * 8}]\n",
    "deep lists": "trainer: " + "[" * 40_000 + "]" * 40_000,
    "deep mappings": "{a: " * 15_000 + "1" + "}" * 15_000,
    "deep indentation": "\n".join(f"{' ' * n}a:" for n in range(400)),
    "deep sequences": "- " * 40_000 + "x",
    "a recursive alias": "trainer: &x {max_epochs: *x}",
    "an alias to nothing": "trainer: *nothing",
    "a long number": "trainer: {max_epochs: " + "9" * 90_000 + "}",
    "a number to the base of 60": "trainer: {max_epochs: " + ":".join(["1"] * 40_000) + "}",
    "a huge exponent": "trainer: {max_epochs: 1e999999999}",
    "a huge text": "trainer: {precision: " + "x" * 90_000 + "}",
    "many comments": "#\n" * 45_000,
    "many keys": "\n".join(f"k{n}: 1" for n in range(9_000)),
    "the same key": "trainer: {}\n" * 1000,
    "a tag that runs code": "trainer: !!python/object/apply:os.system ['touch evil']",
    "a tag that makes an object": "trainer: !!python/object/new:subprocess.Popen [['touch', 'evil']]",
    "a tag that names a module": "trainer: !!python/module:evil",
    "a tag that names a function": "trainer: !!python/name:os.system",
    "a tag of a set": "trainer: !!set {a, b}",
    "binary data": "trainer: !!binary " + "QUFB" * 20_000,
    "two documents": "---\ntrainer: {}\n---\ntrainer: {}\n",
    "UTF-16": "trainer: {max_epochs: 1}".encode("utf-16"),
    "bytes": bytes(range(256)) * 100,
    "zeros": bytes(10_000_000),
    "control characters": 'trainer: {precision: "\x1b[31m\x1b]0;evil\x07"}',
    "an escape": 'trainer: {precision: "\\e[31m"}',
    "directions of text": "trainer: {precision: '\u202eevil'}",
    "a list": "- 1\n- 2\n",
    "a number": "5",
    "nothing": "",
    "a dunder": "__class__: {__init__: evil}",
    "dots in names": "trainer.max_epochs: 1",
    "another config": "trainer: /etc/passwd",
    "a config with an address": "trainer: http://example.com/c.yaml",
    "itself": "trainer: c.yaml",
    "itself many times": "trainer: {callbacks: [" + "c.yaml, " * 1000 + "]}",
    "a device": "trainer: /dev/zero",
    "a data folder with an address": "data: {init_args: {data_dir: 'https://example.com'}}",
    "a class of the system": "model: {init_args: {optimizer: {class_path: os.system, init_args: {command: id}}}}",
    "a class of builtins": "model: {init_args: {optimizer: {class_path: builtins.eval, init_args: {source: '1'}}}}",
    "subprocess": "trainer: {callbacks: [{class_path: subprocess.Popen, init_args: {args: [touch, evil]}}]}",
    "a module that is not there": "trainer: {callbacks: [{class_path: nowhere.to.be.Found}]}",
    "a path as class": "model: {class_path: ../../evil.Model}",
    "a dunder as class": "model: {class_path: lightning_cnn.__init__.__builtins__}",
    "arguments as a list": "model: {class_path: CNNClassifier, init_args: [1, 2]}",
    "class_path as a list": "model: {class_path: [CNNClassifier]}",
    "devices": f"trainer: {{devices: {HUGE}}}",
    "devices as text": "trainer: {devices: '1000'}",
    "a list of devices": f"trainer: {{accelerator: cpu, devices: {[*range(5000)]}}}",
    "nodes": f"trainer: {{num_nodes: {HUGE}}}",
    "negative nodes": "trainer: {num_nodes: -1}",
    "epochs": "trainer: {max_epochs: -7}",
    "epochs of NaN": "trainer: {max_epochs: .nan}",
    "epochs of infinity": "trainer: {max_epochs: .inf}",
    "steps of text": "trainer: {max_steps: evil}",
    "max_time": "trainer: {max_time: {weeks: 1.0e+300}}",
    "batch_size": "data: {init_args: {batch_size: -1}}",
    "folds": f"data: {{init_args: {{folds: {HUGE}, fold: {HUGE}}}}}",
    "val_size": f"data: {{init_args: {{val_size: -{HUGE}}}}}",
    "a seed": f"seed_everything: {2**80}",
    "image_size": f"data: {{class_path: ImageFolderDataModule, init_args: {{root: ., image_size: {HUGE}}}}}",
    "a folder with nothing": "data: {class_path: ImageFolderDataModule, init_args: {root: .}}",
    "a root with NUL": 'data: {class_path: ImageFolderDataModule, init_args: {root: "a\\0b"}}',
    "a long root": f"data: {{class_path: ImageFolderDataModule, init_args: {{root: {'x' * 5000}}}}}",
    "classes in the model": f"model: {{init_args: {{num_classes: {HUGE}}}}}",
    "an unknown setting": "evil: 1",
    "an unknown setting with a long name": f"{'e' * 90_000}: 1",
}

#: The `config.yaml` of a run whose checkpoint is sound; processes and places come from it.
RUNS: dict[str, str] = {
    "devices": f"trainer: {{devices: {HUGE}}}",
    "1,000 devices": "trainer: {accelerator: cpu, devices: 1000}",
    "nodes": "trainer: {num_nodes: 2}",
    "a strategy of notebooks": "trainer: {strategy: ddp_spawn, devices: 2}",
    "a strategy of the system": "trainer: {strategy: {class_path: os.system}}",
    "an environment of a cluster": f"trainer: {{plugins: [{{{_LIGHTNING}.plugins.environments.MPIEnvironment}}]}}",
    "a logger outside": f"trainer: {{logger: {{{_LIGHTNING}.loggers.CSVLogger, init_args: {{save_dir: {OUTSIDE}}}}}}}",
    "a profiler outside": (
        f"trainer: {{profiler: {{{_LIGHTNING}.profilers.SimpleProfiler, init_args: {{dirpath: {OUTSIDE}}}}}}}"
    ),
    "a tag that runs code": TEXTS["a tag that runs code"],  # type: ignore[dict-item]
    "a bomb of aliases": _BOMB,
    "deep lists": "trainer: " + "[" * 50_000,
    "a list": "- 1",
}

#: What may change in such a run.
OF_RUN = ("run", "run/**/*")


def cases(run: Path) -> Iterator[Case]:
    """Yield a case for each config, and for each run with such a config."""
    for name, text in TEXTS.items():
        yield Case(name, _CNN, _writer(text))
    for name in ("a bomb of aliases", "a short bomb", "deep lists", "zeros", "a tag that runs code", "itself"):
        for setting in ("model", "data", "model.optimizer"):
            argv = (*_CNN[:3], f"--{setting}", "c.yaml", *_REFUSED_LATE)
            yield Case(f"{name} as --{setting}", argv, _writer(TEXTS[name]))
    for name, text in RUNS.items():
        for command in ("fit", "test"):
            flags = ("--trainer.max_epochs", "1") if command == "fit" else ("--overwrite", "true")
            yield Case(
                f"{name} of a run, {command}",
                (command, "run", *flags),
                _run_writer(run, text),
                ("run/**/*", "run"),
                True,
            )
    other = yaml.safe_load((run / "config.yaml").read_text())
    for place in (OUTSIDE, f"{OUTSIDE}/data", "/evil", "~/evil"):
        other["data"]["init_args"]["data_dir"] = place
        yield Case(
            f"data_dir {place} of a run",
            ("test", "run"),
            _run_writer(run, yaml.safe_dump(other)),
            ("run/**/*", "run"),
            True,
        )


def _writer(text: str | bytes) -> Callable[[Path], object]:
    content = text if isinstance(text, bytes) else text.encode()
    return lambda folder: (folder / "c.yaml").write_bytes(content)


def _run_writer(run: Path, text: str) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        shutil.copytree(run, folder / "run")
        (folder / "run/config.yaml").write_text(text)

    return write
