"""Whether what a night has learned goes live: one test of gain and harm, that may be looked at every night."""
