"""Adaptive evaluation: attacks on the ensemble that decides."""
