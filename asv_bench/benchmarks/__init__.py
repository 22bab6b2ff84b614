"""Benchmarks of skdeep beside its peers, for asv."""
