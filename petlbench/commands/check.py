"""petlbench check: does a method keep what every method promises?"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from petlbench.commands import Commands


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "check", help="the contract, for a method of your own", epilog="petlbench check ./my_method.py"
    )
    parser.add_argument("method", metavar="METHOD", help="name or file, with fields if you like: 'vpt(tokens=50)'")
    parser.set_defaults(do=do)


def do(options: argparse.Namespace) -> int:
    import torch

    from petlbench import contract, spec, zoo

    torch.set_num_threads(1)
    failed = 0
    for each in spec.parse(options.method):
        method = spec.make(zoo.method(each.name), each.fields, f"method {each.name}")
        for promise in contract.PROMISES:
            try:
                promise(method)
            except Exception as error:  # whatever a stranger's code raises is a promise not kept
                failed += 1
                print(f"FAILED  {contract.name(promise)}: {error or type(error).__name__}")
            else:
                print(f"ok      {contract.name(promise)}")
    print(f"{failed} of the promises not kept" if failed else "every promise kept")
    return 1 if failed else 0
