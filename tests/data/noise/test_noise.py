"""The noise bank: from the real records, from a MATLAB file, and simulated."""

import dataclasses
import importlib

import numpy as np
import pytest
import scipy.io
import scipy.signal

from clef_jax.data.noise import bank
from clef_jax.data.noise.bank import NoiseBankError
from clef_jax.data.noise.load import load_noise_bank
from clef_jax.data.noise.simulated import simulate_noise_bank
from clef_jax.data.signals.leads import NOISE_LEADS
from clef_jax.data.signals.montage import ECG, Montage
from clef_jax.data.signals.spec import CLEF_V2

MAT_KEYS = ("motion_artefacts", "electrode_movement", "baseline_wander", "mixture_of_noises")


@pytest.fixture(scope="module")
def recorded(real_data):
    return load_noise_bank(real_data / "nstdb", CLEF_V2)


@pytest.fixture(scope="module")
def simulated():
    return simulate_noise_bank(3, 120, 500.0)


def _lead(bank, kind, lead):
    return bank.signal[bank.kinds.index(kind), bank.leads.index(lead)].astype(np.float64)


def _check_shape_and_relations(bank, samples):
    assert bank.signal.shape == (4, 15, samples)
    assert bank.signal.dtype == np.float32
    assert bank.kinds == ("motion", "electrode", "baseline_wander", "mixture")
    assert bank.leads == NOISE_LEADS
    lead = dict(zip(bank.leads, bank.signal.astype(np.float64).transpose(1, 0, 2), strict=True))
    for derived, expected in {
        "III": lead["II"] - lead["I"],
        "aVR": -(lead["I"] + lead["II"]) / 2,
        "aVL": (lead["I"] - lead["III"]) / 2,
        "aVF": (lead["II"] + lead["III"]) / 2,
        "V2": 0.044 * lead["X"] + 0.164 * lead["Y"] - 1.387 * lead["Z"],
        "V5": 1.125 * lead["X"] + 0.127 * lead["Y"] - 0.086 * lead["Z"],
    }.items():
        assert np.allclose(lead[derived], expected, atol=1e-5)
    assert np.allclose(bank.signal[3], bank.signal[:3].sum(axis=0), atol=1e-5)
    assert np.all(bank.signal.std(axis=-1) > 0.01)


def test_recorded_bank_has_shape_and_einthovens_relations(recorded):
    # 432,000 samples at 360 Hz are 20 minutes.
    _check_shape_and_relations(recorded, 20 * 60 * 500)


def test_simulated_bank_has_shape_and_einthovens_relations(simulated):
    _check_shape_and_relations(simulated, 120 * 500)


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # importing wfdb under pandas 3
@pytest.mark.parametrize(
    ("kind", "record"), [("motion", "ma"), ("electrode", "em"), ("baseline_wander", "bw")]
)
def test_recorded_bank_keeps_the_recordings_in_place(real_data, recorded, kind, record):
    wfdb = importlib.import_module("wfdb")
    original = wfdb.rdrecord(str(real_data / "nstdb" / record)).p_signal.T
    # 18 samples at 360 Hz and 25 at 500 Hz fall on the same instants.
    x = _lead(recorded, kind, "X")[::25]
    assert x.size == original.shape[1] // 18
    slow = scipy.signal.firwin(361, 20, fs=360)
    smooth = scipy.signal.filtfilt(slow, 1, original[0])[::18]
    same_band = scipy.signal.filtfilt(scipy.signal.firwin(501, 20, fs=500), 1,
                                      _lead(recorded, kind, "X"))[::25]  # fmt: skip
    assert np.abs(same_band - smooth)[5:-5].max() < 0.02 * smooth.std()
    z = np.hypot(_lead(recorded, kind, "X"), _lead(recorded, kind, "Y"))
    assert np.allclose(_lead(recorded, kind, "Z"), z, atol=1e-6)


def _share_of_power(bank, kind, low, high):
    frequency, power = scipy.signal.welch(_lead(bank, kind, "II"), 500, nperseg=10_000)
    return power[(frequency >= low) & (frequency < high)].sum() / power[1:].sum()


@pytest.mark.parametrize("bank", ["recorded", "simulated"])
def test_spectra_tell_the_kinds_apart(bank, request):
    bank = request.getfixturevalue(bank)
    slow = {kind: _share_of_power(bank, kind, 0, 1.0) for kind in bank.kinds}
    fast = {kind: _share_of_power(bank, kind, 15, 160) for kind in bank.kinds}
    assert slow["baseline_wander"] > 0.8
    assert fast["motion"] > 5 * max(fast["electrode"], fast["baseline_wander"])
    assert fast["electrode"] < 0.1
    # Electrode motion resembles the heart's own band, which is why it is the worst noise.
    assert _share_of_power(bank, "electrode", 0.3, 15) > 0.3


def test_simulated_muscle_noise_comes_in_bursts(simulated):
    windows = _lead(simulated, "motion", "I").reshape(-1, 250).std(axis=1)
    assert np.quantile(windows, 0.95) > 3 * np.quantile(windows, 0.05)


def test_simulation_is_a_function_of_the_seed():
    first, again, other = (simulate_noise_bank(seed, 20, 500.0) for seed in (1, 1, 2))
    assert np.array_equal(first.signal, again.signal)
    assert first.fingerprint() == again.fingerprint()
    assert first.fingerprint() != other.fingerprint()


def test_fingerprint_follows_content_and_source(simulated):
    changed = simulated.signal.copy()
    changed[2, 5, 777] += 1e-3
    prints = {
        simulated.fingerprint(),
        bank.NoiseBank(changed, 500.0, simulated.source).fingerprint(),
        bank.NoiseBank(simulated.signal, 500.0, "elsewhere").fingerprint(),
    }
    assert len(prints) == 3


def test_without_a_recording_the_log_says_simulated(caplog):
    with caplog.at_level("WARNING", logger="absl"):
        bank = load_noise_bank(None, CLEF_V2, max_seconds=20)
    assert "SIMULATED" in caplog.text
    assert bank.source.startswith("simulated")
    assert bank.signal.shape[-1] == 20 * 500


def test_max_seconds_keeps_the_beginning(real_data, recorded):
    short = load_noise_bank(real_data / "nstdb", CLEF_V2, max_seconds=30)
    assert short.signal.shape[-1] == 30 * 500
    inner = slice(0, 29 * 500)
    assert np.allclose(short.signal[..., inner], recorded.signal[..., inner], atol=2e-2)


def test_banks_of_another_rate_hold_the_same_noise(real_data, recorded, simulated):
    at_250 = dataclasses.replace(CLEF_V2, fs=250.0, samples=2500)
    slower = {
        recorded: load_noise_bank(real_data / "nstdb", at_250),
        simulated: simulate_noise_bank(3, 120, 250.0),
    }
    for fast, slow in slower.items():
        assert slow.fs == 250 and slow.signal.shape[-1] == fast.signal.shape[-1] // 2
        assert slow.fingerprint() != fast.fingerprint()
        _check_shape_and_relations(slow, fast.signal.shape[-1] // 2)
        taps = scipy.signal.firwin(201, 60, fs=500)
        for kind in fast.kinds:
            expected = scipy.signal.filtfilt(taps, 1, _lead(fast, kind, "Y"))[::2]
            half = scipy.signal.firwin(101, 60, fs=250)
            found = scipy.signal.filtfilt(half, 1, _lead(slow, kind, "Y"))
            assert np.abs(found - expected)[500:-500].max() < 0.02 * expected.std()


def test_noise_on_other_montages_is_that_of_the_nearest_lead(simulated, caplog):
    assert simulated.on_leads(ECG) is simulated.signal
    montage = Montage("strange", ("V5", "MLII", "V1"))
    rows = [NOISE_LEADS.index(lead) for lead in ("V5", "II", "V1")]
    with caplog.at_level("WARNING", logger="absl"):
        np.testing.assert_array_equal(simulated.on_leads(montage), simulated.signal[:, rows])
        assert not caplog.records
        found = simulated.on_leads(Montage("abdominal", ("II", "Abdomen 1", "V9")))
    rows = [NOISE_LEADS.index(lead) for lead in ("II", "I", "I")]
    np.testing.assert_array_equal(found, simulated.signal[:, rows])
    (record,) = caplog.records
    assert "no noise of Abdomen 1, V9; they take that of lead I" in record.getMessage()


def test_a_bank_shorter_than_the_windows_is_refused():
    with pytest.raises(NoiseBankError, match="20.0 s of noise; windows of 30 s need as much"):
        load_noise_bank(None, CLEF_V2.of_window(30), max_seconds=20)


def _write_mat(path, fs, seconds, **changes):
    """Four sines of a kind-specific frequency, with a lead-specific amplitude."""
    t = np.arange(round(seconds * fs)) / fs
    amplitude = np.arange(1, 16)[:, None]
    arrays = {key: amplitude * np.sin(2 * np.pi * f * t)
              for key, f in zip(MAT_KEYS, (3, 4, 5, 6), strict=True)}  # fmt: skip
    arrays |= changes
    scipy.io.savemat(path, {k: v for k, v in arrays.items() if v is not None}, do_compression=True)
    return path


@pytest.mark.parametrize("fs", [1000.0, 500.0, 360.0])
def test_mat_file_is_resampled_from_the_given_rate(tmp_path, fs):
    bank = load_noise_bank(_write_mat(tmp_path / "noises.mat", fs, 20), CLEF_V2, mat_fs=fs)
    assert bank.signal.shape == (4, 15, 10_000)
    t = np.arange(10_000) / 500
    for row, frequency in enumerate((3, 4, 5, 6)):
        expected = np.arange(1, 16)[:, None] * np.sin(2 * np.pi * frequency * t)
        error = np.abs(bank.signal[row] - expected)[:, 50:-50]
        assert error.max() < 0.02 * 15


def test_mat_rate_is_inferred_from_the_noise_records_length(tmp_path, caplog):
    path = tmp_path / "noises.mat"
    rng = np.random.default_rng(0)
    for fs, samples in ((1000, 1_805_556), (500, 902_778)):
        array = np.broadcast_to(rng.integers(-9, 9, samples, dtype=np.int8), (15, samples))
        scipy.io.savemat(path, dict.fromkeys(MAT_KEYS, array))
        with caplog.at_level("WARNING", logger="absl"):
            bank = load_noise_bank(path, CLEF_V2, max_seconds=20)
        assert bank.signal.shape[-1] == 10_000
        assert f"{fs} Hz" in bank.source
        assert not caplog.text


def test_mat_of_another_length_is_taken_at_1000_hz_with_a_warning(tmp_path, caplog):
    with caplog.at_level("WARNING", logger="absl"):
        bank = load_noise_bank(_write_mat(tmp_path / "noises.mat", 1000, 20), CLEF_V2)
    assert bank.signal.shape[-1] == 10_000
    for part in ("noises.mat", "20000 samples", "1000 Hz", "mat_fs"):
        assert part in caplog.text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"electrode_movement": None}, "lacks electrode_movement. Found: motion_artefacts"),
        ({"baseline_wander": np.zeros((12, 20_000))}, r"baseline_wander has shape \(12, 20000\)"),
        ({"motion_artefacts": np.zeros((15, 20_000))}, "lead I of motion is constant"),
        ({"mixture_of_noises": np.full((15, 20_000), np.nan)}, "lead I of mixture has missing"),
        ({"mixture_of_noises": np.ones((15, 2000))}, "2.0 s of noise, at least 10 s"),
    ],
)
def test_unusable_mat_files_are_refused(tmp_path, changes, message):
    path = _write_mat(tmp_path / "noises.mat", 1000, 20, **changes)
    with pytest.raises(NoiseBankError, match=f"noises.mat.*{message}"):
        load_noise_bank(path, CLEF_V2, mat_fs=1000)


def test_files_that_are_no_noise_are_refused(tmp_path):
    text = tmp_path / "text.mat"
    text.write_text("no MATLAB file at all, but long enough to be looked at " * 10)
    truncated = _write_mat(tmp_path / "truncated.mat", 1000, 20)
    truncated.write_bytes(truncated.read_bytes()[:-5000])
    other = tmp_path / "noise.csv"
    other.write_text("a")
    for path in (text, truncated, other, tmp_path / "absent", tmp_path):
        with pytest.raises(NoiseBankError, match=str(path)):
            load_noise_bank(path, CLEF_V2, mat_fs=1000)


def test_folder_with_a_missing_record_names_it(tmp_path, real_data):
    for name in ("bw.hea", "bw.dat", "em.hea", "em.dat"):
        (tmp_path / name).symlink_to(real_data / "nstdb" / name)
    with pytest.raises(NoiseBankError, match=f"{tmp_path} lacks ma.hea"):
        load_noise_bank(tmp_path, CLEF_V2)


def test_ecg_in_place_of_noise_is_refused(tmp_path, real_data):
    for name in ("bw", "em"):
        for suffix in (".hea", ".dat"):
            (tmp_path / (name + suffix)).symlink_to(real_data / "nstdb" / (name + suffix))
    ecg = next((real_data / "ludb" / "data").glob("*.hea"))
    (tmp_path / ecg.with_suffix(".dat").name).symlink_to(ecg.with_suffix(".dat"))
    (tmp_path / "ma.hea").write_text(ecg.read_text().replace(ecg.stem + " ", "ma ", 1))
    with pytest.raises(NoiseBankError, match="ma: 12 channels found, 2 expected"):
        load_noise_bank(tmp_path, CLEF_V2)
