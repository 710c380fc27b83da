"""Measurements beside hand-written Ray and Dask: the same work in the same run, so ratios, not promises."""
