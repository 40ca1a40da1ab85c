"""Recordings of any format: in millivolts, with canonical lead names, NaN for missing samples."""
