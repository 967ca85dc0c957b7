"""The sub-commands of `petlbench`, one file each: `add` declares the options, `do` does the work."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]
