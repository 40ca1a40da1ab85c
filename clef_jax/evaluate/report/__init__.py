"""One page of what evaluations found: which model, how sure, against which bar."""
