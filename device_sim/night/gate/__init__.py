"""Whether what a night has learned goes live: one test of gain and harm, good for every night."""
