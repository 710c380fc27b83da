"""One exact encoding for every value that a cache key can hold."""
