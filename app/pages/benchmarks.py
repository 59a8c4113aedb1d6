"""Benchmarks: the list of them, with the progress of those that go on, and the report of each in a frame."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from app.pages.guards import DOCUMENT_POLICY, FRAMING_POLICY
from app.pages.shell import Wired, is_htmx, render
from app.services.reporting.benchmarks import get_benchmark, list_benchmarks, read_report

router = APIRouter()

# A browser refuses to open a sandboxed document that asks for an opener policy.
DOCUMENT_HEADERS = {
    "Content-Security-Policy": DOCUMENT_POLICY,
    "X-Frame-Options": "SAMEORIGIN",
    "Cross-Origin-Opener-Policy": "unsafe-none",
    "Cache-Control": "no-store",
}


@router.get("/benchmarks")
def benchmarks_page(request: Request, wired: Wired) -> Response:
    """List the benchmarks whose results lie on this machine; htmx gets the list alone."""
    listed = list_benchmarks(wired.settings.results_folder)
    return render(request, "benchmarks/_list.html" if is_htmx(request) else "benchmarks/page.html", listed=listed)


@router.get("/benchmarks/{name}")
def benchmark_page(request: Request, wired: Wired, name: str) -> Response:
    """Show one benchmark, with its report in a frame."""
    found = get_benchmark(wired.settings.results_folder, name)
    response = render(request, "benchmarks/detail.html", benchmark=found)
    response.headers["Content-Security-Policy"] = FRAMING_POLICY
    return response


@router.get("/benchmarks/{name}/report")
def benchmark_report(wired: Wired, name: str) -> Response:
    """Return the report itself, which a browser shows without running or fetching anything."""
    return HTMLResponse(read_report(wired.settings.results_folder, name), headers=DOCUMENT_HEADERS)
