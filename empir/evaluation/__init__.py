"""Attacks on models and what they leave: single attacks, the adaptive suite, curves, checks."""
