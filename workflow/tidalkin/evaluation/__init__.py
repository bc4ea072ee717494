"""Measure how well labelled galaxies are found, beside baselines."""
