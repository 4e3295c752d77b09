import torch

from lightning_cnn.classifiers import CNNClassifier
from lightning_cnn.export.program import Program


def test_the_program_computes_what_the_classifier_predicts():
    torch.manual_seed(0)
    classifier = CNNClassifier().train()
    images = torch.randint(0, 256, (5, 1, 28, 28), dtype=torch.uint8)

    logits, probabilities = Program(classifier)(images)

    assert not classifier.training
    assert torch.equal(logits, classifier(images))
    assert torch.equal(probabilities, classifier.predict_step(images))


def test_the_images_to_trace_with_are_several_and_always_the_same():
    program = Program(CNNClassifier())

    assert program.example().shape == (2, 1, 28, 28)
    assert torch.equal(program.example(), program.example())
