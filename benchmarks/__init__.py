"""Measurements against hand-written Ray, in the same run and on the same cluster: ratios, not promises."""
