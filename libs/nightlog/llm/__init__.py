"""Proprietary patterns go to a large language model; every answer is stored as it comes, nothing is asked twice."""
