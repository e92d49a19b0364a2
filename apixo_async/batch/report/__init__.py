"""The report of a batch: one page with its videos, its course and its problems, to open from disk.

Needs the extra `report`.
"""

try:
    from apixo_async.batch.report.writing import write_report
except ModuleNotFoundError as error:
    if error.name not in {"jinja2", "markupsafe", "vl_convert"}:
        raise
    msg = f"a report needs {error.name}: pip install 'apixo-async[report]'"
    raise ModuleNotFoundError(msg, name=error.name) from None

__all__ = ["write_report"]
