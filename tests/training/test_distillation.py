import shutil
from pathlib import Path

import pytest
import torch
import yaml
from torch.optim import SGD

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn.classifiers import CNNClassifier, FastCNNClassifier
from lightning_cnn.config.loading import load_classifier
from lightning_cnn.data import FashionMNISTDataModule, MNISTDataModule
from lightning_cnn.errors import UserError
from lightning_cnn.run import Run
from lightning_cnn.training.distillation import Distillation, distilled

SMALL = ("--model.channels", 8)
STEPS = ("--model.scheduler", "null", "--data.batch_size", 50)


@pytest.fixture
def teachers(trained) -> list[Path]:
    """Two runs of a small network with other seeds."""
    return [trained("mnist/fast.yaml", *SMALL, "--seed_everything", seed) for seed in (1, 2)]


def listed(runs: list[Path]) -> str:
    return f"[{', '.join(map(str, runs))}]"


def weights(run: Path) -> dict[str, torch.Tensor]:
    return checkpoints.read(Run(run).checkpoint("last"))["state_dict"]


def same(one: Path, two: Path) -> bool:
    first, second = weights(one), weights(two)
    return all(torch.equal(first[name], second[name]) for name in first)


def test_the_loss_is_that_of_the_paper():
    generator = torch.Generator().manual_seed(0)
    logits, taught = torch.randn(5, 3, generator=generator), torch.rand(5, 3, generator=generator).softmax(dim=1)

    loss = distilled(torch.tensor(2.0), logits, taught, temperature=3.0, weight=0.75)

    divergence = (taught * (taught.log() - (logits / 3).log_softmax(dim=1))).sum(dim=1).mean()
    assert loss.item() == pytest.approx(0.25 * 2.0 + 0.75 * 9 * divergence.item(), rel=1e-5)


def test_a_student_learns_the_mean_of_the_teachers_on_the_same_augmented_images(teachers, tiny_data, trainer):
    seen = []

    class Noting(CNNClassifier):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            with torch.no_grad():
                seen.append((batch[0], self(batch[0]), loss.detach()))
            return loss

    student = Noting(optimizer=lambda parameters: SGD(parameters, lr=0.0))
    distillation = Distillation([str(run) for run in teachers], temperature=2.0, weight=1.0)
    trainer(callbacks=[distillation]).fit(student, datamodule=MNISTDataModule(val_size=50, batch_size=50))

    models = [load_classifier(checkpoints.read(Run(run).checkpoint("best"))) for run in teachers]
    for images, logits, loss in seen:
        with torch.no_grad():
            mean = torch.stack([(model(images) / 2).softmax(dim=1) for model in models]).mean(dim=0)
            expected = 4 * (mean * (mean.log() - (logits / 2).log_softmax(dim=1))).sum(dim=1).mean()
        assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    assert len(seen) == 3
    assert student.distill is None and not [name for name in student.state_dict() if "teacher" in name]


def test_without_teachers_and_with_weight_0_the_training_is_the_same(teachers, fit):
    plain = fit("mnist/fast.yaml", *SMALL, "--distillation.temperature", 2)
    unweighted = fit(
        *("mnist/fast.yaml", *SMALL, "--distillation.teachers", listed(teachers), "--distillation.weight", 0)
    )
    distilled_run = fit("mnist/fast.yaml", *SMALL, "--distillation.teachers", listed(teachers))

    assert same(plain, unweighted) and not same(plain, distilled_run)


def test_a_resumed_run_takes_its_teachers_from_its_own_config_and_ends_bit_for_bit_the_same(teachers, fit, cli):
    flags = (*SMALL, *STEPS, "--distillation.teachers", listed(teachers))
    whole = fit("mnist/fast.yaml", *flags, "--trainer.max_epochs", 2)
    stopped = fit("mnist/fast.yaml", *flags, "--trainer.max_steps", 4, "--trainer.max_epochs", 2)
    assert not same(whole, stopped)

    outcome = cli("fit", stopped, "--trainer.max_steps", -1)

    assert outcome.status == 0, outcome.err
    assert same(whole, stopped)
    recorded = yaml.safe_load(Run(stopped).config_file.read_text())
    assert recorded["distillation"]["teachers"] == [str(run) for run in teachers]


def test_a_checkpoint_is_not_believed_which_teachers_it_had(teachers, fit, cli, tmp_path):
    run = fit(
        *("mnist/fast.yaml", *SMALL, *STEPS, "--trainer.max_steps", 2, "--distillation.teachers", listed(teachers[:1]))
    )
    copy = Path(shutil.copy(Run(run).checkpoint("last"), tmp_path / "copy.ckpt"))

    refused = cli("fit", copy, "--trainer.max_steps", 3)
    assert refused.status == 2
    assert "was trained with teachers, whose files a checkpoint does not name; add --distillation.teachers" in (
        refused.err
    )
    accepted = cli("fit", copy, "--trainer.max_steps", 3, "--distillation.teachers", listed(teachers[:1]))
    assert accepted.status == 0, accepted.err
    others = cli("fit", run, "--trainer.max_steps", 3, "--distillation.teachers", listed(teachers))
    assert others.status == 2 and "--distillation.teachers 2: the run has 1, which it keeps" in others.err
    assert cli("test", copy).status == 0


def test_the_newest_run_is_a_teacher_by_its_file(teachers, fit, cli, caplog):
    (teacher,) = teachers[1:]

    run = fit("mnist/fast.yaml", *SMALL, *STEPS, "--distillation.teachers", "[best, mnist/tiny]")

    assert yaml.safe_load((run / "config.yaml").read_text())["distillation"]["teachers"] == [
        str(Run(teacher).checkpoint("best")), "mnist/tiny"
    ]  # fmt: skip
    assert cli("fit", "--ckpt_path", run, "--trainer.max_epochs", 2).status == 0
    assert "teachers have changed" not in caplog.text


def test_an_interrupted_model_has_no_teachers_any_more(teachers, tiny_data, trainer):
    class Interrupted(CNNClassifier):
        def on_train_batch_end(self, *_):
            raise ValueError("interrupted")

    student = Interrupted()
    with pytest.raises(ValueError, match="interrupted"):
        trainer(callbacks=[Distillation([str(teachers[0])])]).fit(student, datamodule=MNISTDataModule(val_size=50))

    assert student.distill is None


def test_changed_files_of_teachers_are_mentioned(teachers, fit, cli, caplog):
    run = fit(
        *("mnist/fast.yaml", *SMALL, *STEPS, "--trainer.max_steps", 2, "--distillation.teachers", listed(teachers[:1]))
    )
    shutil.copy(Run(teachers[1]).checkpoint("best"), Run(teachers[0]).checkpoint("best"))
    caplog.clear()

    assert cli("fit", run, "--trainer.max_steps", 3).status == 0

    assert "Resume is not bit-exact, because the files of the teachers have changed" in caplog.text


def test_teachers_that_do_not_fit_are_one_line(teachers, fit, cli, configs, tiny_data):
    other = fit("fashion_mnist/fast.yaml", *SMALL)
    command = ("fit", "--config", configs / "mnist/fast.yaml", "--data.val_size", 50, "--distillation.teachers")

    for names, message in (
        ([other], f"--distillation.teachers {other}: it has other classes than the data, or in another order; choose"),
        (["nowhere"], "checkpoint nowhere does not exist; give a file"),
    ):
        outcome = cli(*command, listed(names))
        assert outcome.status == 2 and message in outcome.err.splitlines()[-1]
    for flags, message in (
        (("--distillation.temperature", 0), "temperature must be greater than 0, got 0.0"),
        (("--distillation.weight", 2), "weight must be between 0 and 1, got 2.0"),
    ):
        outcome = cli(*command, listed(teachers), *flags)
        assert outcome.status == 2 and message in outcome.err.splitlines()[-1]


def test_a_teacher_for_other_images_is_refused(teachers, tiny_data, trainer):
    student = FastCNNClassifier(image_size=32)

    with pytest.raises(UserError, match=r"it is for images \(1, 28, 28\), but the data has \(1, 32, 32\)"):
        Distillation([str(teachers[0])]).on_fit_start(trainer(), student)


def test_other_classes_are_refused_by_their_number_without_names(teachers, trainer):
    with pytest.raises(UserError, match="it has other classes than the data"):
        Distillation([str(teachers[0])]).on_fit_start(trainer(), FastCNNClassifier(num_classes=3))


def test_lightnings_trainer_distills_as_well(teachers, tiny_data, trainer):
    data = FashionMNISTDataModule(val_size=50)

    with pytest.raises(UserError, match="it has other classes than the data"):
        trainer(callbacks=[Distillation([str(teachers[0])])]).fit(FastCNNClassifier(channels=8), datamodule=data)
