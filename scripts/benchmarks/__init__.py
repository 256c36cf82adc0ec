"""The benchmarks: ratios against peers, measured in one run."""
