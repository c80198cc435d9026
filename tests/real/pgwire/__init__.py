"""A raw PostgreSQL client for tests: it says exactly what it is told to, including what no driver would say."""
