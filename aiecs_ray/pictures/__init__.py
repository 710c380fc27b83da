"""Pictures of runs and plans: pure functions from what is known to text, HTML and SVG. No Ray, no clock."""
