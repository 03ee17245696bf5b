"""Going on with a saved sweep: what is refused is told in words that fit it."""

from pathlib import Path

import pytest

from tests.reporting import planned, sweeps
from velosweep.commands.resume import SavedSweep
from velosweep.config.settings import RunSettings
from velosweep.errors import ModelFileError


def test_a_model_that_is_gone_is_to_be_put_back_and_not_to_be_set(tmp_path: Path) -> None:
    sweep = planned.sweep()
    saved = SavedSweep(
        root=tmp_path, record=sweeps.default_sweep().record, jobs=list(sweep.jobs), settings=RunSettings()
    )

    with pytest.raises(ModelFileError) as refused:
        saved.measure_rest(saved.jobs)

    assert "No model at /models/llama-3.1-8b-q4_k_m.gguf" in refused.value.message
    assert "put it back" in (refused.value.remedy or "")
    assert "model_pair" not in str(refused.value)
