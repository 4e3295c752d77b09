import sys

import pytest
from chaos import broken_images
from chaos.broken_images import FAULTS, ONCE
from PIL import Image

from lightning_cnn.commands import predict as command
from lightning_cnn.data.image_files import ImageFileError
from lightning_cnn.predict import pipeline

TRIES = len(ONCE) + len(FAULTS)


@pytest.mark.usefixtures("_one_thread")
def test_broken_images_are_named_or_predicted_and_sound_ones_are_as_before(tmp_path):
    outcome = broken_images.run(TRIES, seed=0, folder=tmp_path / "work")

    assert outcome.lost == []
    assert outcome.survived == TRIES


@pytest.mark.usefixtures("_one_thread")
def test_what_is_passed_over_or_made_up_or_said_besides_is_lost(tmp_path, monkeypatch):
    predict, read = command.predict, pipeline.read

    def predict_and_tell(predictor, images, on_error, **options):
        def tell(name, error):
            if "empty" not in str(error):
                on_error(name, error)
            if "blank" in str(error):
                print("a warning", file=sys.stderr)

        return predict(predictor, images, tell, **options)

    def make_up(path):
        try:
            return read(path)
        except ImageFileError as error:
            if "not a regular file" not in str(error):
                raise
            image = Image.new("L", (28, 28))
            image.paste(255, (9, 9, 20, 20))
            return image

    monkeypatch.setattr(command, "predict", predict_and_tell)
    monkeypatch.setattr(pipeline, "read", make_up)
    monkeypatch.setattr(broken_images, "ONCE", ())

    lost = broken_images.run(len(FAULTS), seed=0, folder=tmp_path / "work").lost

    passed_over, *made_up, besides = lost
    assert "(nothing, seed 0): told 0 times, predicted as None" in passed_over
    assert all("must be refused, but ('" in line for line in made_up) and len(made_up) == 2  # a device and a pipe
    assert "'a warning'" in besides
