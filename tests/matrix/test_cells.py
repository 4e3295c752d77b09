"""A few cells of `scripts/lightning_matrix`, which has all."""

import pytest
from matrix.cells import MODES, SAME, run
from matrix.expectations import EXPECTED
from matrix.members import members

#: One member of each kind that takes part in training.
FEW = ("EarlyStopping", "CSVLogger", "SimpleProfiler", "TorchCheckpointIO", "accumulate_grad_batches", "MPIEnvironment")
CELLS = [(member, mode) for member in members() if member.name in FEW for mode in MODES]


@pytest.mark.parametrize(("member", "mode"), CELLS, ids=[f"{mode}-{member.name}" for member, mode in CELLS])
@pytest.mark.usefixtures("_one_thread")
def test_a_cell_is_as_expected(member, mode, tmp_path):
    assert run(member, mode, tmp_path / "cell") == EXPECTED.get((str(member), mode), SAME)


def test_there_is_no_expectation_of_what_is_not_tried():
    assert EXPECTED.keys() <= {(str(member), mode) for member in members() for mode in MODES}
