"""The command line ``aiecs-ray``."""
