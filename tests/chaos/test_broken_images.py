import sys

import pytest
from chaos import broken_images
from chaos.broken_images import FAULTS, ONCE
from PIL import Image

from lightning_cnn.commands import predict as command
from lightning_cnn.predict import pipeline

TRIES = len(ONCE) + len(FAULTS)


@pytest.mark.usefixtures("_one_thread", "no_figures")
def test_broken_images_are_named_and_valid_ones_are_predicted_as_before(tmp_path):
    outcome = broken_images.run(TRIES, seed=0, folder=tmp_path / "work")

    assert outcome.lost == []
    assert outcome.survived == TRIES


@pytest.mark.usefixtures("_one_thread")
def test_missing_errors_false_predictions_and_other_output_are_reported(tmp_path, monkeypatch):
    predict_images, read_files, read_pages = command.predict_images, command.read_files, pipeline.read_pages

    def reporting(on_error):
        def report(name, error):
            if "empty" not in str(error):
                on_error(name, error)
            if "blank" in str(error):
                print("a warning", file=sys.stderr)

        return report

    def predict_and_warn(predictor, images, on_error, **options):
        return predict_images(predictor, images, reporting(on_error), **options)

    def read_and_warn(names, on_error, fill):
        return read_files(names, reporting(on_error), fill)

    def read_anything(path, on_error, fill):
        failures = []
        yield from read_pages(path, lambda name, error: failures.append((name, error)), fill)
        for name, error in failures:
            if "not a regular file" not in str(error):
                on_error(name, error)
                continue
            image = Image.new("L", (28, 28))
            image.paste(255, (9, 9, 20, 20))
            yield path, image

    monkeypatch.setattr(command, "predict_images", predict_and_warn)
    monkeypatch.setattr(command, "read_files", read_and_warn)
    monkeypatch.setattr(pipeline, "read_pages", read_anything)
    monkeypatch.setattr(broken_images, "ONCE", ())

    lost = broken_images.run(len(FAULTS), seed=0, folder=tmp_path / "work").lost

    missing, *false, other = lost
    assert "(nothing, seed 0): 0 errors, predicted as None" in missing
    assert all("must be refused, but ('" in line for line in false) and len(false) == 2  # a device and a pipe
    assert "'a warning'" in other
