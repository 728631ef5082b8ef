"""Run -> bundle: the Core ML packages of a personality model, and what an app needs beside them."""
