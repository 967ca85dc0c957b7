"""The suites, imported as `petlbench.benchmarks`. What you type is the file: `--suite vtab` is vtab.py."""
