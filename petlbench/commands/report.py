"""petlbench report: everything that was measured as one HTML file, to look at and to send around."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from petlbench.commands import options as shared
from petlbench.commands import table as tables

if TYPE_CHECKING:
    from petlbench.commands import Commands
    from petlbench.record import Record

EPILOG = """examples:
  petlbench report
  petlbench report --suite mini --out mini.html
  petlbench report --suite vtab --with published=hst,noah
  petlbench report --serve

The file needs no network and no server; --serve is for a browser that cannot read this machine's files.
"""
ADDRESS = "127.0.0.1"
"""This machine and no other."""


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "report",
        help="all of it as one HTML file to look at",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    tables.add_selection(parser, "NAME,...", "suites, a table each (default: all with records)")
    tables.add_published(parser)
    parser.add_argument(
        "--out", type=Path, default=Path("report.html"), metavar="FILE", help="write there (default: report.html)"
    )
    parser.add_argument("--serve", action="store_true", help=f"serve it on {ADDRESS} until Ctrl-C")
    parser.add_argument("--port", type=int, metavar="N", help="for --serve (default: any that is free)")
    shared.add_results(parser)
    parser.set_defaults(do=do)


def do(options: argparse.Namespace) -> int:
    from petlbench.errors import InputError
    from petlbench.files import write

    if options.port is not None and not options.serve:
        raise InputError(f"--port {options.port}: only with --serve")
    content = _page(options).encode()
    try:
        write(options.out, content)
    except OSError as error:
        raise InputError(f"--out {options.out}: cannot be written: {error.strerror or error}") from error
    print(f"wrote {options.out}, {len(content) / 1e6:.2f} MB", file=sys.stderr)
    if options.serve:
        _serve(content, options.port or 0)
    return 0


def _page(options: argparse.Namespace) -> str:
    from petlbench import provenance, report, spec, zoo
    from petlbench.store import Store

    suites = shared.names(options.suite) or tables.suites(options.results)
    methods = [each.name for each in spec.parse(options.methods)] if options.methods else []
    shown = {zoo.name_of(name) for name in methods}
    files = tables.paths([*suites, *methods])
    known: dict[Path, list[str]] = {}

    def changed(record: Record) -> list[str]:
        """Asked twice of every record, and slow to find out."""
        path = record.run.path
        if path not in known:
            known[path] = provenance.changed(record, files)
        return known[path]

    parts = []
    for suite in suites:
        asked = argparse.Namespace(**{**vars(options), "suite": suite})
        rows, measured = tables.chosen(asked) if _is_published(asked) else (None, tables.selected(asked))
        part = report.Part(name=zoo.name_of(suite), suite=None, published=rows)
        if measured:
            records, made, choice = measured
            choice["is_stale"] = lambda record: bool(changed(record))
            part = replace(part, suite=made, records=records, choice=choice)
        parts.append(part)
    return report.page(
        parts,
        [cost for cost in Store(options.results).costs() if not shown or cost.method in shown],
        options.results,
        changed=changed,
        is_stale=lambda cost: tables.is_stale_cost(cost, files),
    )


def _is_published(options: argparse.Namespace) -> bool:
    """Whether published rows are asked for and the sources have any of the suite; else it is shown without."""
    from petlbench import published, zoo

    if not options.also:
        return False
    return zoo.name_of(options.suite) in set(published.load(shared.sources(options.also))["suite"])


def _serve(content: bytes, port: int) -> None:
    """Answer every request for / with the page, and nothing else: no file of this machine can be asked for."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    from petlbench.errors import InputError

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = self.path.partition("?")[0] == "/"
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(content) if found else 0))
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            if found:
                self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing of every request."""

    try:
        server = ThreadingHTTPServer((ADDRESS, port), Handler)
    except (OSError, OverflowError) as error:
        raise InputError(f"--port {port}: cannot be used: {error}") from error
    with server:
        print(f"http://{ADDRESS}:{server.server_port}/ (Ctrl-C ends it)", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print(file=sys.stderr)
