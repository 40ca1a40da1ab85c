"""Recordings of any supported format: millivolts, canonical lead names, NaN where samples are missing."""
