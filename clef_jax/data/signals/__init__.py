"""Signals: names of leads, preprocessing, quality."""
