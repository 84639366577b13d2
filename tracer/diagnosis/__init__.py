"""What is wrong with an attribution: the faults that its trace shows. May import analysis and tracefile; no torch."""
