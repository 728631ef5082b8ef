"""The personality model: training, prediction, export."""
