"""Recordings that lie, have no end, or are no files: each with what must be said of it."""

import io
import os
import pathlib
import socket
import struct
import warnings
import zlib

import numpy as np
import pydicom
import pyedflib
import scipy.io
from pydicom.data import get_testdata_file

DICOM = get_testdata_file("waveform_ecg.dcm", download=False)
EDF = (pathlib.Path(pyedflib.__file__).parent / "data/test_generator.edf").read_bytes()
SAMPLES = np.random.default_rng(0).normal(0, 300, 10_000).astype("<i2").tobytes()
SIGNAL = "r.dat 16 200/mV 16 0 0 0 0 II\n"


def of_wfdb(folder):
    """A header and a signal file of 10,000 samples in format 16."""
    record = "r 1 500 10000\n"
    headers = {
        "r 1 500 1000000000000\nr.dat 16 200/mV 16 0 0 0 0 II\n": "more than a year",
        "r 1 500 100000000000000000\nr.dat 16 200/mV\n": "more than a year",
        "r 1 500 10000000000\nr.dat 16 200/mV\n": "room for 10000 samples",
        "r 1 500 1000000000\nr.dat 516 200/mV\n": "room for 163840000 samples",
        "r 2 500 10000000\nx 0 200/mV 16 0 0 0 0 II\nr.dat 16 9/NU 16 0 0 0 0 PPG\n": "no samples",
        "r 1 500 10000\nr.dat 16x0 200/mV\n": "no samples per frame",
        "r 1 500 10000\nr.dat 16x999999999 200/mV\n": "truncated",
        "r 1 0.5 10000\n" + SIGNAL: "0.5 Hz",
        "r 1 inf 10000\n" + SIGNAL: "inf Hz",
        "r 1 1e300 10000\n" + SIGNAL: "too high a rate",
        "r 1000000000 500 10000\n" + SIGNAL: "1000000000 channels",
        "r 5000 500 10000\n" + 5000 * SIGNAL: "5000 channels",
        "r 1 500 " + 5000 * "9" + "\n" + SIGNAL: "record line",
        "r/40000 1 500 40000\n" + 40_000 * "q 1\n": "q.hea: cannot be read",
        "r/40000 1 500 40000\n" + 40_000 * "a_long_name 1\n": "holds more than 524,288 bytes",
        "r/2 1 500 99999999999\nq 1\n~ 99999999998\n": "q.hea",
        "r/1 1 500 10000\nq\0 10000\n": "outside the record's folder",
    } | {
        record + signal: said
        for signal, said in {
            "r.dat 16 1e400/mV\n": "gain inf",
            "r.dat 16 1e-400/mV\n": "gain 0 in",
            "r.dat 16 1e-320/mV\n": "gain 9.99989e-321",
            "r.dat 16:1000000000000 200/mV\n": "a skew of 1000000000000",
            "r.dat 8:10000 200/mV\n": "a skew of 10000",
            "r.dat 16+999999999999999999 200/mV\n": "truncated",
            "r.dat 16 200(999999999999999999)/mV\n": "beyond 32 bits",
            f"r.dat 8 200/mV 16 0 {400 * '9'} 0 0 II\n": "initial value in",
            f"r.dat 16 200/mV 16 {400 * '9'} 0 0 0 II\n": "ADC zero in",
            f"r.dat 16 200/mV 16 {5000 * '9'} 0 0 0 II\n": "ADC zero",
            "r.dat 99 200/mV\n": "storage format 99",
            "r\0.dat 16 200/mV\n": "outside the record's folder",
            "../r.dat 16 200/mV\n": "outside the record's folder",
        }.items()
    }
    for number, (header, said) in enumerate(headers.items()):
        record = folder / f"wfdb{number}"
        record.mkdir()
        (record / "r.hea").write_text(header)
        (record / "r.dat").write_bytes(SAMPLES)
        yield record / "r", said
    (folder / "long").mkdir()
    with open(folder / "long" / "r.hea", "wb") as stream:
        stream.truncate(1 << 40)
    yield folder / "long" / "r", "more than 524,288 bytes"


def of_no_file(folder):
    """A pipe, a socket, a device without end, a loop and a folder in the place of a file."""

    def listen(path):
        with socket.socket(socket.AF_UNIX) as opened:
            opened.bind(str(path))

    makers = {
        "a named pipe": os.mkfifo,
        "a socket": listen,
        "a device": lambda path: os.symlink("/dev/zero", path),
        "symbolic links": lambda path: os.symlink(path.name, path),
        "directory": os.mkdir,
    }
    number = 0
    for said, make in makers.items():
        for name in ("r.hea", "r.edf", "r.csv", "r.tsv", "r.npy", "r.mat", "r.dcm", "r.dat", "r"):
            place = folder / f"f{number}"
            number += 1
            place.mkdir()
            make(place / name)
            if name == "r.dat":
                (place / "r.hea").write_text("r 1 500\n" + SIGNAL)
            # A folder of that name has the size of one, and no sniffed file is a DICOM.
            shown = {"r": "r.hea: cannot be read", "r.dat": "r"}.get(name, said)
            yield place / name, shown


def of_arrays(folder):
    """NPY headers and CSV files."""
    headers = {
        "'<f8', (1000000000000,)": "mmap length",
        f"'<f8', (1{30 * '0'},)": "not a plain .npy",
        "'<f8', (4294967296, 4294967296)": "too big",
        "'<f8', (-5, -1000)": "not a plain .npy",
        "'<f8', (True,)": "not a plain .npy",
        "'<f8', (5.5,)": "not a plain .npy",
        "'<f8', (0, 1000000000000)": "npy",
        "'|V0', (1000000000000,)": "expected numbers",
        "'|O', (10,)": "Python objects",
        "'<c16', (500,)": "expected numbers",
        "'|u1', (2000, 4000)": "2000 leads",
        "[('a', '<f8')], (10,)": "expected numbers",
        f"{3000 * '['}, (10,)": "not a plain .npy",
    }
    for number, (header, said) in enumerate(headers.items()):
        descr, shape = header.rsplit(", (", 1)
        text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': ({shape}, }}".encode()
        path = folder / f"{number}.npy"
        magic = b"\x93NUMPY\1\0" + struct.pack("<H", len(text))
        path.write_bytes(magic + text + (8_000_000 if "u1" in descr else 8000) * b"\0")
        yield path, said
    with open(folder / "sparse.npy", "wb") as stream:
        np.lib.format.write_array_header_1_0(
            stream, {"descr": "|i1", "fortran_order": False, "shape": (1 << 34,)}
        )
        stream.truncate(stream.tell() + (1 << 34))
    yield folder / "sparse.npy", "no more than a year"
    tables = {
        b"1," * 5_000_000: "a line of more than",
        b"A" * 10_000_000: "a line of more than",
        b",".join([b"1"] * 20_000): "20000 leads",
        b"I,II\n1,2\n\0,3\n": "not a table of samples",
        b"I\n" + 400 * b"9" + b"\n1\n": "not a table of samples",
        b'"' + b"a" * 3_000_000: "a line of more than",
        b"\xff\xfe\0": "not a table of samples",
        b"": "not a table of samples",
    }
    for number, (content, said) in enumerate(tables.items()):
        (folder / f"{number}.csv").write_bytes(content)
        yield folder / f"{number}.csv", said


def of_matlab(folder):
    """Sizes and types that do not fit, and much that is compressed to little."""
    signal = {"val": np.zeros((2, 6000), "<i2")}
    contents = {}
    for version in ("5", "4"):
        stream = io.BytesIO()
        scipy.io.savemat(stream, signal, format=version)
        contents[version] = stream.getvalue()
    shape = contents["5"].index(struct.pack("<ii", 2, 6000))
    tag = contents["5"].index(b"val") + 4
    files = {"empty": (b"", "truncated"), "HDF5": (b"".ljust(124) + b"\0\2IM", "7.3")}
    for rows, columns in ((2, 1 << 30), ((1 << 31) - 1, (1 << 31) - 1)):
        dims = struct.pack("<ii", rows, columns)
        five, four = bytearray(contents["5"]), bytearray(contents["4"])
        five[shape : shape + 8] = four[4:12] = dims
        files[f"5 of {rows}"] = (five, "not a readable MATLAB file")
        files[f"4 of {rows}"] = (four, "not a readable MATLAB file")
    lying = bytearray(contents["5"])
    lying[tag + 4 : tag + 8] = struct.pack("<I", (1 << 32) - 8)
    files["size"] = (lying, "copy it again")
    for kind, size in ((14, 1 << 30), (14, (1 << 32) - 1), (0, 0)):
        element = zlib.compress(struct.pack("<II", kind, size) + bytes(100_000_000), 9)
        bomb = contents["5"][:128] + struct.pack("<II", 15, len(element)) + element
        files[f"bomb {kind} {size}"] = (bomb, "compressed to")
    for name, (content, said) in files.items():
        path = folder / f"{name}.mat"
        path.write_bytes(content)
        yield path, said


def of_edf(folder):
    """Fields of the header that cannot be, for all channels."""
    channels = int(EDF[252:256])
    widths = (16, 80, 8, 8, 8, 8, 8, 80, 8, 32)

    def of_channels(field, value):
        begin = 256 + channels * sum(widths[:field])
        return [(begin + i * widths[field], value, widths[field]) for i in range(channels)]

    edits = {
        "number of data records": [(236, value, 8) for value in ("99999999", "1e9", "0", "x")],
        "duration of a data record": [(244, v, 8) for v in ("0", "-1", "1e-30", "1e30", "nan")],
        "number of channels": [(252, value, 4) for value in ("9999", "-1", "0", "")],
        "header bytes": [(184, value, 8) for value in ("99999999", "-256", "1")],
    }
    changes = [[change] for of_field in edits.values() for change in of_field]
    for field in (3, 4):
        changes += [of_channels(field, value) for value in ("1e308", "-1e308", "inf", "nan", "")]
    for field, values in ((5, ("99999999", "inf")), (8, ("0", "99999999", "-9999999", "1e308"))):
        changes += [of_channels(field, value) for value in values]
    for number, edit in enumerate(changes):
        content = bytearray(EDF)
        for at, value, width in edit:
            content[at : at + width] = value.encode().ljust(width)
        path = folder / f"{number}.edf"
        path.write_bytes(content)
        yield path, ""
    for size in (0, 100, 300, 256 * (channels + 1)):
        path = folder / f"cut{size}.edf"
        path.write_bytes(EDF[:size])
        yield path, ""


def of_dicom(folder):
    """Attributes of all groups or channels that cannot be, and bytes that are none."""
    groups = {
        "NumberOfWaveformSamples": (0, 1, (1 << 32) - 1, None),
        "NumberOfWaveformChannels": (0, 1, 65_535, None),
        "SamplingFrequency": ("0", "-1", "0.5", "1e300", "1e-300", None),
        "WaveformBitsAllocated": (0, 8, 64, 65_535, None),
        "WaveformSampleInterpretation": ("XX", "", "FL", None),
        "WaveformData": (None,),
        "ChannelDefinitionSequence": (None, pydicom.Sequence()),
    }
    channels = {
        "ChannelSensitivity": ("0", "1e300", "1e-300", "nan", "", None),
        "ChannelSensitivityCorrectionFactor": ("0", "1e300"),
        "ChannelBaseline": ("1e300", "nan"),
    }
    number = 0
    for fields, of_channels in ((groups, False), (channels, True)):
        for name, values in fields.items():
            for value in values:
                dataset = pydicom.dcmread(DICOM)
                for group in dataset.WaveformSequence:
                    for item in group.ChannelDefinitionSequence if of_channels else (group,):
                        if value is None:
                            del item[name]
                        else:
                            with warnings.catch_warnings(action="ignore"):
                                setattr(item, name, value)
                path = folder / f"{number}.dcm"
                with warnings.catch_warnings(action="ignore"):
                    dataset.save_as(path)
                yield path, ""
                number += 1
    whole = pathlib.Path(DICOM).read_bytes()
    for name, content in {
        "empty": b"",
        "preamble": whole[:132],
        "cut": whole[:20_000],
        "unknown type": whole.replace(b"OW", b"ZZ"),
        "no type": whole.replace(b"US", b"\0\0"),
    }.items():
        path = folder / f"{name}.dcm"
        path.write_bytes(content)
        yield path, ""


MAKERS = (of_wfdb, of_no_file, of_arrays, of_matlab, of_edf, of_dicom)
