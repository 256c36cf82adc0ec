"""What a run is: who listens, what is written down, what is kept of a failure."""
