"""Benchmarks of `fit` against plain PyTorch; `scripts/benchmark` runs them. Not part of the wheel."""
