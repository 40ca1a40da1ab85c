import dataclasses
import json
import pickle

import pytest

from clef_jax.data.signals.spec import (
    CLEF_V2,
    ECGFOUNDER,
    SPECS,
    PreprocessingSpec,
    SpecError,
    read_spec,
    spec_differences,
)
from tests.oracles.specs import SPEC_VERSION_1

# What release 0.1.0's successors stored before normalisation could be chosen.
STORED_BEFORE = {
    "version": 2,
    "fs": 500.0,
    "samples": 5000,
    "max_denominator": 10000,
    "window": "(samples - 1) * down // up + 1",
    "spike_mv": 15.0,
    "spike_share": 0.01,
    "gaps": "linear",
    "resampling": "polyphase",
    "kaiser_beta": 5.0,
    "padtype": "line",
    "band_hz": [0.67, 40.0],
    "order": 5,
    "filtering": "filtfilt",
    "zscore_epsilon": 1e-08,
    "padding": "zeros",
}


def test_todays_spec_is_what_was_stored_and_z_scores_each_lead():
    assert CLEF_V2.to_dict() == STORED_BEFORE | {"normalisation": "lead"}
    assert PreprocessingSpec.from_dict(STORED_BEFORE) == CLEF_V2
    assert PreprocessingSpec.from_dict(SPEC_VERSION_1) == CLEF_V2


@pytest.mark.parametrize("spec", [*SPECS.values(), CLEF_V2.of_window(2.5)])
def test_specs_survive_json_and_processes(spec):
    stored = json.loads(json.dumps(spec.to_dict()))
    assert PreprocessingSpec.from_dict(stored) == spec == pickle.loads(pickle.dumps(spec))
    assert PreprocessingSpec.from_dict(stored).to_dict() == spec.to_dict()


def test_ecgfounders_differs_where_its_own_code_does():
    assert spec_differences(ECGFOUNDER, CLEF_V2) == (
        "spike_mv None instead of 15.0, gaps zeros instead of linear, band_hz None instead of "
        "[0.67, 40.0], normalisation record instead of lead"
    )
    assert spec_differences(ECGFOUNDER, ECGFOUNDER) == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 3}, "version 3 instead of 2"),
        ({"kaiser_beta": 8.6, "filtering": "sosfiltfilt"}, "kaiser_beta 8.6 instead of 5.0; filt"),
        ({"detrend": True, "bands": 2}, "unknown field bands; unknown field detrend"),
        ({"fs": 80}, "fs is 80; expected more than 80 Hz"),
        ({"fs": "500"}, "fs is '500'; expected"),
        ({"samples": 499}, "samples is 499; expected a whole number, of at least 1 s"),
        ({"samples": 2500.5}, "samples is 2500.5"),
        ({"gaps": "cubic"}, "gaps is 'cubic'; expected linear or zeros"),
        ({"band_hz": [40.0, 0.67]}, "band_hz is .40.0, 0.67.; expected two frequencies"),
        ({"band_hz": [0.67, 250.0]}, "below half of fs"),
        ({"order": 0}, "order is 0; expected 1 to 10"),
        ({"normalisation": "batch"}, "normalisation is 'batch'; expected lead or record"),
        ({"spike_mv": -1.0}, "spike_mv is -1.0; expected above 0 mV, or None"),
    ],
)
def test_what_this_release_cannot_do_is_refused_by_name(change, message):
    with pytest.raises(SpecError, match=message):
        PreprocessingSpec.from_dict(CLEF_V2.to_dict() | change)


def test_a_stored_spec_that_lacks_a_field_is_refused():
    stored = CLEF_V2.to_dict()
    del stored["gaps"]
    with pytest.raises(SpecError, match="no field gaps"):
        PreprocessingSpec.from_dict(stored)
    with pytest.raises(SpecError, match="version 1: order 4 instead of 5"):
        PreprocessingSpec.from_dict(SPEC_VERSION_1 | {"order": 4})


def test_what_cannot_be_chosen_cannot_be_set():
    with pytest.raises(TypeError, match="padtype"):
        PreprocessingSpec(padtype="edge")


def test_specs_by_name_and_from_files(tmp_path):
    assert read_spec("clef_v2") == CLEF_V2 and read_spec("ecgfounder") == ECGFOUNDER
    file = tmp_path / "spec.json"
    file.write_text('{"fs": 250, "samples": 2500}')
    assert read_spec(str(file)) == dataclasses.replace(CLEF_V2, fs=250, samples=2500)
    assert json.dumps(read_spec(str(file)).to_dict()).startswith('{"version": 2, "fs": 250.0, ')
    file.write_text(json.dumps(ECGFOUNDER.to_dict()))
    assert read_spec(str(file)) == ECGFOUNDER


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"fs": 250', r"spec\.json: .*delimiter"),
        ("[1]", r"spec\.json: holds list, expected fields"),
        ('{"rate": 250}', r"spec\.json: preprocessing: unknown field rate"),
        ('{"fs": 8000}', r"spec\.json: preprocessing: samples is 5000"),
    ],
)
def test_files_of_impossible_specs_are_refused(tmp_path, content, message):
    file = tmp_path / "spec.json"
    file.write_text(content)
    with pytest.raises(SpecError, match=message):
        read_spec(str(file))


def test_an_absent_file_is_named_with_the_names_there_are():
    with pytest.raises(SpecError, match="clef_v3: no such file; expected one, or the name clef_v2"):
        read_spec("clef_v3")
