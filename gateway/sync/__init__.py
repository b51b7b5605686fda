"""The blocking front: connections, proxies and results for programs with threads."""
