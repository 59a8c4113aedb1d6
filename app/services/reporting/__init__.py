"""Read-only queries of the pages, returning frozen values: a file per page family, every query bounded and indexed."""
