"""The night: what was said by day is learned, judged, and taken up or refused."""
