"""Benchmarks: each is a command that prints a ratio measured in one run. See README.md."""
