"""Which draft model and n_draft should I run here, and is the speedup real?"""

__version__ = "0.1.0"
