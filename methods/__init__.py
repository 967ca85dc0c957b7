"""The zoo, imported as `petlbench.methods`. What you type is the file: `--methods hst` is hst.py."""
