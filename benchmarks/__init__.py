"""Speed beside what a good user would write by hand, as ratios of alternating runs."""
