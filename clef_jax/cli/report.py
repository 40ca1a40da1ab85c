"""clef-jax report: what evaluations found, on one page."""

import argparse

from clef_jax.cli.arguments import UsageError


def add_command(commands) -> None:
    """Adds the command to the parser."""
    report = commands.add_parser(
        "report",
        help="write one page of what evaluations found",
        description="Merges the results of one or more runs and writes one HTML file that needs no "
        "network, and a short Markdown file beside it. Models of several runs are compared where "
        "they were asked the same.",
    )
    report.add_argument("runs", nargs="+", metavar="R", help="folders that evaluate wrote")
    report.add_argument("--out", required=True, metavar="report.html", help="the page to write")
    report.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from clef_jax.evaluate.report.write import write_report

    if not arguments.out.endswith(".html"):
        raise UsageError(f"--out is {arguments.out}; expected a name that ends with .html")
    for section in write_report(arguments.runs, arguments.out):
        print(f"{section.title}\n    {section.sentence}")
        if section.doubts:
            print(f"    few test examples: {'; '.join(section.doubts)}")
    print(f"{arguments.out}: written, and {arguments.out.removesuffix('.html')}.md beside it")
    return 0
