"""The folder that `pt character export` writes: its manifest, its ONNX file, opening and verifying it."""
