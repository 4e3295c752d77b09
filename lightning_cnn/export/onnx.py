"""A classifier as ONNX, written by torch's exporter, without anything that tells where it was written."""

from copy import deepcopy
from typing import Any, cast

import torch
from torch.export import Dim, ExportedProgram

from lightning_cnn.checkpoint.onnx import INPUT, OUTPUTS
from lightning_cnn.classifiers import ImageClassifier
from lightning_cnn.errors import UserError, reason
from lightning_cnn.export.program import Program
from lightning_cnn.text import in_one_line

#: The version of ONNX's operators, from 2022, which every program of today reads.
OPSET = 18


class ExportError(UserError):
    """The exporter does not know how to write a network; the command itself was right."""

    exit_status = 1


def traced(classifier: ImageClassifier) -> ExportedProgram:
    """Return the program of a classifier as a graph for any number of images.

    Raises:
        ExportError: If it is not a graph: the network decides by the values of the images, or by their number.
    """
    program = Program(deepcopy(classifier))
    program.to(memory_format=torch.contiguous_format)  # torch.export.save expects it
    try:
        with torch.no_grad():
            exported = torch.export.export(program, (program.example(),), dynamic_shapes=({0: Dim("batch")},))
    except Exception as error:  # whatever the code of the network raises
        raise _not_exported(classifier, error) from error
    for node in exported.graph.nodes:
        node.meta.pop("stack_trace", None)  # the folders of this machine
    return exported


def to_onnx(classifier: ImageClassifier) -> bytes:
    """Return a classifier as an ONNX file without metadata.

    Raises:
        ExportError: If ONNX cannot say what the network computes.
    """
    exported = traced(classifier)
    try:
        written = torch.onnx.export(
            exported,
            dynamo=True,
            input_names=[INPUT],
            output_names=[*OUTPUTS],
            opset_version=OPSET,
            verbose=False,
        )
    except Exception as error:  # of torch and of onnxscript, of many types
        raise _not_exported(classifier, error) from error
    assert written is not None
    return serialized(written.model_proto)


def serialized(model: Any) -> bytes:
    """Return a model of ONNX as bytes, without names of modules and lines of code."""
    for described in (model, model.graph, *model.graph.node, *model.graph.initializer):
        del described.metadata_props[:]
        described.doc_string = ""
    return cast(bytes, model.SerializeToString(deterministic=True))


def _not_exported(classifier: ImageClassifier, error: Exception) -> ExportError:
    return ExportError(
        f"the network {classifier.network_name} cannot be exported as a graph: {in_one_line(reason(error))}; "
        "`export --format safetensors` writes its weights"
    )
