"""A wrong argument, config or checkpoint is reported in one line, and nothing is left behind."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lightning_cnn.checkpoint import KEY

MODELS = ".*".join(
    f"\\b{name}Classifier\\b" for name in ("CNN", "DeepCNN", "FastCNN", "MLP", "ShallowCNN", "SimpleCNN")
)

#: Wrong arguments, after those of a valid `fit` where they begin with +, and the message.
WRONG = [
    # flags
    ("fitt", r"there is no command 'fitt' \(see `lightning-cnn --help`\); did you mean 'fit'\?"),
    ("fit --confg x.yaml", r"there is no option --confg; did you mean '--config'\?"),
    ("+ --trainer.max_epoch 2", r"there is no option --trainer\.max_epoch; did you mean '--trainer\.max_epochs'\?"),
    ("+ --trainer.max_epoch=2", r"there is no option --trainer\.max_epoch; did you mean '--trainer\.max_epochs'\?"),
    ("+ --optimizer Adam", r"there is no option --optimizer; did you mean '--model\.optimizer'\?"),
    ("+ --optimizer.lr 0.1", r"there is no option --optimizer\.lr; did you mean '--model\.optimizer\.lr'\?"),
    ("+ --lr_scheduler StepLR", r"there is no option --lr_scheduler; did you mean '--model\.scheduler'\?"),
    ("+ --trainer null", r"--trainer null: this is a group of settings"),
    ("+ --lr 0.1", r"there is no option --lr; did you mean '--model\.optimizer\.lr'\?"),
    ("+ --root photos", r"there is no option --root; did you mean '--data\.root'\?"),
    ("+ --network CNN", r"there is no option --network; did you mean '--model\.network'\?"),
    ("+ --epochs=3", r"there is no option --epochs; did you mean '--trainer\.max_epochs'\?"),
    ("test best --ckpt_path last", r"'last' is one argument too many: there is already the checkpoint 'best'"),
    ("+ --trainer.default_root_dir s3://b/runs", r"--trainer\.default_root_dir s3://b/runs is an address; name a"),
    ("+ --data.data_dir https://example.org", r"--data\.data_dir https://example\.org is an address; name a file"),
    ("+ --ckpt_path s3://b/a.ckpt", r"checkpoint s3://b/a\.ckpt is an address; name a file or folder on this machine"),
    ("+ --config https://example.org/a.yaml", r"--config https://example\.org/a\.yaml is an address; name a file"),
    ("export best --output s3://b/w.safetensors", r"argument --output: s3://b/w\.safetensors is an address;"),
    ("+ --data.data_dir=", r"--data\.data_dir '': this is a folder; name it"),
    ("+ --trainer.default_root_dir=", r"--trainer\.default_root_dir '': this is a folder; name it"),
    (
        "+ --config init_arg.yaml",
        r"--trainer\.callbacks: 'init_arg' beside class_path \(choose from .*\); did you mean 'init_args'\?",
    ),
    ("+ --print_confg", r"there is no option --print_confg; did you mean '--print_config'\?"),
    ("+ extra", r"checkpoint extra does not exist; give a file, a run folder"),
    # missing arguments
    ("fit", r"model and data not given; use --config .* such as mnist/cnn, or --model and --data with class names"),
    ("fit --model CNNClassifier", r"data not given; use --config"),
    ("fit --data MNISTDataModule", r"model not given; use --config"),
    ("test", r"test needs a checkpoint: a file, a run folder, `best`, `last` or `previous`"),
    ("validate", r"validate needs a checkpoint: a file, a run folder, `best`, `last` or `previous`"),
    ("fit --config", r"--config needs a value: --config FILE"),
    ("test --ckpt_path", r"--ckpt_path needs a value: --ckpt_path FILE"),
    # classes
    ("+ --model CNNClasifier", r"--model CNNClasifier: there is no such model class; did you mean 'CNNClassifier'\?"),
    ("+ --model Bigg", rf"--model Bigg: there is no such model class \(choose from .*{MODELS}.*\)"),
    ("+ --data MNISTData", r"--data MNISTData: there is no such data class; did you mean 'MNISTDataModule'\?"),
    ("+ --data 17", r"--data 17: there is no such data class"),
    ("+ --model.metrics.f1 null", r"--model\.metrics \{\"f1\": null\}: expected dict"),
    ("+ --model.loss []", r"--model\.loss \[\]: expected Module"),
    ("+ --model.network [null]", r"--model\.network list: CNNClassifier has its own network"),
    ("+ --model.optimizer Adamm", r"optimizer Adamm: there is no such optimizer class; did you mean 'Adam'\?"),
    ("+ --model.optimizer torch.optim.Adamm", r"torch\.optim\.Adamm.*did you mean '(torch\.optim\.)?Adam'\?"),
    ("+ --model.scheduler StepLRR", r"scheduler StepLRR: there is no such scheduler class; did you mean 'StepLR'\?"),
    ("+ --data.augment CropRotate", r"CropRotate: there is no such augment class; did you mean 'CropAndRotate'\?"),
    ("+ --trainer.callbacks PrintLos", r"PrintLos: there is no such callback class; did you mean 'PrintLoss'\?"),
    ("+ --model=", rf"--model : there is no such model class \(choose from .*{MODELS}.*\)"),
    (
        "+ --model nowhere.Class",
        r"--model nowhere\.Class: there is no module 'nowhere' on Python's path; `python -m .*",
    ),
    (
        "+ --model os.system",
        r"--model os\.system: this is not a class, .*; name another \(choose from .*",
    ),
    (
        "+ --model.optimizer torch.nn.Linear",
        r"--model\.optimizer.*: this class is not a subclass of torch's Opt.*",
    ),
    ("+ --trainer.callbacks 3", r"--trainer\.callbacks 3: (expected list|there is no such callback class)"),
    (
        "+ --model.scheduler ReduceLROnPlateau",
        r"--model\.scheduler ReduceLROnPlateau: several classes have this name; "
        r"give torch\.optim\.lr_scheduler\.ReduceLROnPlateau or lightning\.pytorch\.cli\.ReduceLROnPlateau",
    ),
    # arguments of classes
    (
        "+ --trainer.callbacks EarlyStopping",
        r"--trainer\.callbacks: EarlyStopping needs monitor; give --trainer\.callbacks\.monitor",
    ),
    ("+ --trainer.callbacks+=EarlyStopping", r"EarlyStopping needs monitor; give --trainer\.callbacks\.monitor"),
    (
        "+ --trainer.callbacks [EarlyStopping,Timer]",
        r"EarlyStopping needs monitor; give \{class_path: EarlyStopping, init_args: \{monitor: …\}\} in its place",
    ),
    ("+ --model.scheduler StepLR", r"StepLR needs step_size; give --model\.scheduler\.step_size"),
    # unknown arguments of classes
    (
        "+ --data.augment.bad 1",
        r"--data\.augment\.bad: --data\.augment has no class yet; .*--data\.augment CLASS",
    ),
    ("+ --data.augment CropAndRotate --data.augment.cropsize 1", r"augment\.cropsize 1: .*did you mean 'crop_size'\?"),
    (
        "+ --trainer.callbacks+=PrintLoss --trainer.callbacks.bad 1",
        r"callbacks\.bad 1: PrintLoss has no setting 'bad' .*",
    ),
    ("+ --plots.enabledd true", r"there is no option --plots\.enabledd; did you mean '--plots\.enabled'\?"),
    ("+ --model.x.y 1", r"there is no option --model\.x\.y"),
    ("+ --model.means 1", r"--model\.means 1: CNNClassifier has no setting 'means'; did you mean 'mean'\?"),
    (
        "+ --model.network 1",
        r"--model\.network 1: CNNClassifier has its own network; add --model ImageClassifier",
    ),
    (
        "+ --data.batchsize 3",
        r"--data\.batchsize 3: MNISTDataModule has no setting 'batchsize'; did you mean 'batch_size'\?",
    ),
    ("+ --model.optimizer.lrr 1", r"--model\.optimizer\.lrr 1: .* no setting 'lrr'; did you mean 'lr'\?"),
    # types
    ("+ --trainer.max_epochs two", r"--trainer\.max_epochs two: expected int"),
    ("+ --trainer.max_epochs 1.5", r"--trainer\.max_epochs 1\.5: expected int"),
    ("+ --data.batch_size many", r"--data\.batch_size many: expected int"),
    ("+ --model.std wide", r"--model\.std wide: expected float"),
    ("+ --model.optimizer.lr fast", r"--model\.optimizer\.lr fast: expected float"),
    ("+ --seed_everything abc", r"--seed_everything abc: expected bool or int"),
    ("+ --trainer.precision 8", r"--trainer\.precision 8: expected one of .*'bf16-mixed'"),
    ("+ --data.batch_size=", r"--data\.batch_size: expected int"),
    ("+ --model.optimizer.betas 3", r"--model\.optimizer\.betas 3: expected \[float"),
    ("+ --model.mean a", r"--model\.mean a: expected float or \[float, …\]"),
    ("+ --trainer.max_epochs 2024-01-01", r"--trainer\.max_epochs 2024-01-01: expected int"),
    ("+ --config callbacks.yaml", r"--trainer\.callbacks\.patience two: expected int"),
    ("+ --model.std .nan", r"--model\.std '\.nan': \.nan \(line 1\) is not a finite number"),
    ("+ --model.optimizer.lr 1e999", r"--model\.optimizer\.lr '1e999': 1e999 \(line 1\) is not a finite number"),
    ("+ --model.optimizer.lr 99999999999999999999", r"the number '99999999999999999999' \(line 1\) is too large"),
    # ranges
    ("+ --trainer.max_epochs -5", r"--trainer\.max_epochs must be at least -1, got -5"),
    ("+ --trainer.log_every_n_steps -1", r"--trainer\.log_every_n_steps must be at least 0, got -1"),
    ("+ --trainer.check_val_every_n_epoch 0", r"--trainer\.check_val_every_n_epoch must be at least 1, got 0"),
    ("+ --trainer.limit_val_batches -1", r"limit_val_batches must be a number of batches, at least 0, .*, got -1"),
    ("+ --trainer.limit_val_batches 1.5", r"limit_val_batches must be a number of batches, .*, got 1\.5"),
    ("+ --trainer.limit_val_batches 0.001", r"--trainer\.limit_val_batches 0\.001: You requested to check 0\.001"),
    ("+ --trainer.val_check_interval 0", r"val_check_interval must be a number of batches, at least 1, .*, got 0"),
    (
        "+ --trainer.val_check_interval 99",
        r"--trainer\.val_check_interval 99: .*\(99\) must be less",
    ),
    ("+ --trainer.val_check_interval {second:1}", r"val_check_interval .*: expected a duration .* DD:HH:MM:SS"),
    ("+ --trainer.max_time 1:00", r"--trainer\.max_time 1:00: expected a duration greater than 0, as DD:HH:MM:SS"),
    ("+ --trainer.max_time 90", r"--trainer\.max_time 90: expected a duration"),
    ("+ --trainer.max_time 00:00:00:00", r"--trainer\.max_time 00:00:00:00: expected a duration greater than 0"),
    ("+ --trainer.devices [0,1]", r"--trainer\.devices \[0, 1\]: `devices` selected with"),
    ("+ --trainer.strategy ddp_spwn", r"strategy ddp_spwn: there is no such strategy; did you mean 'ddp_spawn'\?"),
    ("+ --trainer.precision transformer-engine", r"needs the package transformer_engine, which is not installed"),
    ("+ --trainer.profiler xla", r"--trainer\.profiler xla needs the package torch_xla, which is not installed"),
    ("+ --trainer.strategy DeepSpeedStrategy", r"--trainer\.strategy DeepSpeedStrategy needs the package deepspeed"),
    ("+ --trainer.strategy ModelParallelStrategy", r"ModelParallelStrategy needs a classifier that parallelises"),
    ("+ --trainer.plugins lightning.pytorch.plugins.BitsandbytesPrecision --trainer.plugins.mode nf4", r"bitsandbytes"),
    (
        "+ --trainer.logger WandbLogger",
        r"--trainer\.logger WandbLogger needs the package wandb, which is not",
    ),
    ("+ --trainer.logger TensorBordLogger", r"no such logger class; did you mean 'TensorBoardLogger'\?"),
    ("+ --trainer.logger CSVLogger", r"CSVLogger needs save_dir; give --trainer\.logger\.save_dir"),
    ("+ --trainer.logger.save_dir x", r"--trainer\.logger has no class yet; choose one first"),
    ("+ --trainer.plugins nonsense", r"--trainer\.plugins nonsense: there is no such plugin class"),
    ("+ --test True --trainer.limit_test_batches 0", r"--trainer\.limit_test_batches 0 evaluates nothing; give more"),
    ("+ --deterministic 1", r"--deterministic 1: expected bool"),
    ("+ --trainer.barebones true --test", r"--test true needs the best weights, and --trainer\.barebones true saves"),
    ("+ --model.std 0", r"--model\.std must be greater than 0, got 0\.0"),
    ("+ --checkpoints.every_n_steps 0", r"--checkpoints\.every_n_steps must be at least 1, got 0"),
    ("+ --model.num_classes 3", r"--model\.num_classes 3: it follows from the data; leave it out"),
    ("+ --model.image_size 32", r"--model\.image_size 32: it follows from the data; leave it out"),
    ("+ --data.batch_size 0", r"batch_size must be at least 1, got 0"),
    ("+ --data.eval_batch_size 0", r"eval_batch_size must be at least 1, got 0"),
    ("+ --data.val_size 0", r"val_size must be between 1 and 199, got 0"),
    ("+ --data.val_size 200", r"val_size must be between 1 and 199, got 200"),
    ("+ --data.augment CropAndRotate --data.augment.crop_size 0", r"crop_size must be at least 1, got 0"),
    (
        "+ --trainer.callbacks PrintLoss --trainer.callbacks.every_n_batches 0",
        r"--trainer\.callbacks\.every_n_batches must be at least 1, got 0",
    ),
    ("+ --model.optimizer.lr -1", r"Invalid learning rate: -1"),
    ("+ --seed_everything -1", r"--seed_everything must be between 0 and 4294967295, got -1"),
    ("+ --trainer.accelerator tpuu", r"accelerator tpuu: there is no such accelerator; did you mean 'tpu'\?"),
    ("+ -x", r"there is no option -x; settings are given as --name VALUE"),
    ("test -1.ckpt", r"there is no option -1\.ckpt; for the file, write \./-1\.ckpt"),
    ("+ --trainer.devices 0", r"--trainer\.devices 0: give at least 1, or auto"),
    # configs
    ("fit --config mnist/cn", r"config 'mnist/cn' cannot be read .*, such as mnist/cnn; did you mean 'mnist/cnn'\?$"),
    ("fit --config nowhere.yaml", r"config 'nowhere\.yaml' cannot be read \(no such file or directory\); give a YAML"),
    ("fit --config broken.yaml", r"line 2, column 1"),
    ("fit --config list.yaml", r"list\.yaml is not a config: it must map settings such as trainer to values"),
    ("fit --config empty.yaml", r"empty\.yaml is not a config"),
    ("fit --config binary.yaml", r"binary\.yaml is not a config: it is not text in UTF-8"),
    ("+ --config number.yaml", r"number\.yaml: trainer must map settings to values, got 5"),
    ("fit --config folder", r"folder is not a config: it is a folder"),
    ("fit --config pipe", r"pipe is not a config: it is a device or a pipe"),
    ("+ --trainer pipe", r"pipe is not a config: it is a device or a pipe"),
    ("+ --model.optimizer pipe", r"pipe is not a config: it is a device or a pipe"),
    ("fit --config s3://bucket/c.yaml", r"--config s3://bucket/c\.yaml is an address; name a file or folder"),
    ("+ --config twice.yaml", r"twice\.yaml is not a valid config: 'max_epochs' is given twice \(line 1\)"),
    ("+ --trainer settings.yaml", r"settings\.yaml is not a valid config: 'max_epochs' is given twice \(line 2\)"),
    ("+ --config leads.yaml", r"settings\.yaml is not a valid config: 'max_epochs' is given twice \(line 2\)"),
    ("+ --config unknown.yaml", r"there is no option --plots\.enable; did you mean '--plots\.enabled'\?"),
    ("+ --config another.yaml", r"another\.yaml: there is no setting 'config'"),
    ("+ --config path.yaml", r"path\.yaml: class_path must be the name of a class, got 3"),
    ("+ --config args.yaml", r"args\.yaml: init_args must map arguments to values, got list"),
    ("+ --config null.yaml", r"null\.yaml: trainer must map settings to values, got None"),
    ("+ --config keys.yaml", r"keys\.yaml: 1 is not the name of a setting"),
    ("fit --config misspelt.yaml", r"misspelt\.yaml: there is no setting 'modell'; did you mean 'model'\?"),
    ("+ --config misspelt.yaml", r"misspelt\.yaml: there is no setting 'modell'; did you mean 'model'\?"),
    # checkpoints
    ("test --ckpt_path nowhere.ckpt", r"checkpoint nowhere\.ckpt does not exist; give a file, a run folder"),
    ("test --ckpt_path folder", r"'folder' is not a run folder"),
    ("test --ckpt_path best", r"no matching run has a checkpoint best\.ckpt; train with `fit` first"),
    ("+ --ckpt_path last", r"no matching run has a checkpoint last\.ckpt"),
    ("test --ckpt_path text.ckpt", r"text\.ckpt cannot be read as a checkpoint"),
    (
        "test --ckpt_path foreign.ckpt",
        r"foreign\.ckpt cannot be read as a checkpoint: it was not written by lightning-cnn",
    ),
    ("test --ckpt_path evil.ckpt", r"evil\.ckpt cannot be read as a checkpoint"),
    ("+ --ckpt_path evil.ckpt", r"evil\.ckpt cannot be read as a checkpoint"),
    # folders
    ("+ --trainer.default_root_dir text.ckpt", r"no run folder can be created in text\.ckpt \(not a directory\)"),
]


class Evil:
    def __reduce__(self):
        return os.mkdir, ("hacked",)


@pytest.fixture
def wrong_files(tiny_data):
    """Create invalid files of every kind in the current folder, and return their names."""
    Path("folder").mkdir()
    Path("broken.yaml").write_text("model: [unclosed\n")
    Path("list.yaml").write_text("- a\n- b\n")
    Path("empty.yaml").write_text("")
    Path("binary.yaml").write_bytes(b"\xff\xfe\x00model")
    Path("number.yaml").write_text("trainer: 5\n")
    os.mkfifo("pipe")
    Path("twice.yaml").write_text("trainer: {max_epochs: 1, max_epochs: 2}\n")
    Path("settings.yaml").write_text("max_epochs: 1\nmax_epochs: 2\n")
    Path("leads.yaml").write_text("trainer: settings.yaml\n")
    Path("unknown.yaml").write_text("plots: {enable: true}\n")
    Path("another.yaml").write_text("config: twice.yaml\n")
    Path("path.yaml").write_text("data: {class_path: 3}\n")
    Path("args.yaml").write_text("data: {init_args: [1]}\n")
    Path("null.yaml").write_text("trainer:\n")
    Path("keys.yaml").write_text("trainer: {1: 2}\n")
    Path("callbacks.yaml").write_text(
        "trainer: {callbacks: [PrintLoss, {class_path: EarlyStopping, init_args: {monitor: a, patience: 3}}, "
        "{class_path: EarlyStopping, init_args: {monitor: b, patience: two}}]}\n"
    )
    Path("init_arg.yaml").write_text("trainer: {callbacks: [{class_path: Timer, init_arg: {duration: 1}}]}\n")
    Path("misspelt.yaml").write_text("modell: {class_path: CNNClassifier}\n")
    Path("text.ckpt").write_text("hello")
    Path("-1.ckpt").write_text("hello")
    torch.save({"state_dict": {}}, "foreign.ckpt")
    torch.save({KEY: Evil()}, "evil.ckpt")
    return names()


def names() -> list[str]:
    return sorted(str(path) for path in Path().rglob("*"))


def argv_of(line: str, configs: Path) -> list[str]:
    config = str(configs / "mnist" / "cnn.yaml")
    good = ["fit", "--config", config, "--trainer.max_epochs", "1", "--data.val_size", "50"]
    first, *rest = line.split()
    return [*good, *rest] if first == "+" else [first, *rest]


@pytest.mark.parametrize("text", ["a\nb", "a\x1b[31m", "\udcff"])
def test_unprintable_text_is_refused_and_escaped(text, configs, cli):
    escaped = ascii(text)

    value = cli(*argv_of("+", configs), "--data.data_dir", text)
    flag = cli(*argv_of("+", configs), f"--{text}", "1")

    assert (value.status, flag.status) == (2, 2)
    assert value.err == f"lightning-cnn: error: --data.data_dir {escaped}: text must be printable; give other text\n"
    assert flag.err == f"lightning-cnn: error: there is no option --{escaped[1:-1]}\n"


@pytest.mark.parametrize(("line", "message"), WRONG, ids=[line for line, _ in WRONG])
def test_a_wrong_argument_is_reported_in_one_line(line, message, wrong_files, configs, cli):
    outcome = cli(*argv_of(line, configs))

    assert outcome.status == 2
    *others, error = [text for text in outcome.err.splitlines() if not text.startswith("INFO: ")]
    assert others == []
    assert re.fullmatch(rf"lightning-cnn: error: .*{message}.*", error)
    for jargon in ("Traceback", "<class", "typing.", "NoneType", "Parser key", "Namespace"):
        assert jargon not in error
    assert names() == wrong_files  # no run folder, and nothing was run from evil.ckpt


def test_unavailable_data_is_exit_status_1(wrong_files, configs, cli):
    outcome = cli(*argv_of("+ --data.data_dir folder", configs))

    assert outcome.status == 1
    assert "lightning-cnn: error: MNIST is not in folder/MNIST/raw and cannot be downloaded.\n" in outcome.err
    assert "--data.allow_sample true" in outcome.err
    assert names() == wrong_files


def test_an_argument_of_another_optimizer_does_not_suggest_itself(wrong_files, configs, cli):
    outcome = cli(*argv_of("+ --model.optimizer.momentum 0.9", configs))  # of SGD, while the config has Adam

    assert outcome.status == 2
    assert "no setting 'momentum'" in outcome.err
    assert "did you mean 'momentum'" not in outcome.err


def test_a_monitored_metric_that_is_not_logged_is_named(wrong_files, configs, cli):
    flags = "--trainer.callbacks EarlyStopping --trainer.callbacks.monitor train/lss"

    outcome = cli(*argv_of(f"+ {flags}", configs))

    assert outcome.status == 2
    assert "Early stopping conditioned on metric `train/lss` which is not available" in outcome.err


def test_another_architecture_is_refused(fit, cli):
    run = fit("mnist/cnn.yaml")
    before = names()

    outcome = cli("test", "--ckpt_path", run, "--model", "SimpleCNNClassifier")

    assert outcome.status == 2
    assert re.search(r"error: the checkpoint is of another architecture: .*; leave --model out", outcome.err)
    assert names() == before


def test_a_process_prints_the_same_line_and_no_warnings(tmp_path, configs):
    # In the tests above, pytest captures warnings before they are printed.
    argv = ["fit", "--config", str(configs / "mnist" / "cnn.yaml"), "--model.std", "0"]

    process = subprocess.run(
        [sys.executable, "-m", "lightning_cnn", *argv], capture_output=True, text=True, timeout=120, check=False
    )

    assert process.returncode == 2
    assert process.stderr.splitlines()[-1] == "lightning-cnn: error: --model.std must be greater than 0, got 0.0"
    assert "Traceback" not in process.stderr
    assert "arning" not in process.stderr
    assert list(tmp_path.iterdir()) == []
