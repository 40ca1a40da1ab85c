"""What earlier releases stored."""

# In manifests and meta records of version 1 of the preprocessing.
SPEC_VERSION_1 = {
    "version": 1,
    "fs": 500.0,
    "samples": 5000,
    "band_hz": [0.67, 40.0],
    "order": 5,
    "gaps": "linear",
    "resampling": "polyphase",
}
