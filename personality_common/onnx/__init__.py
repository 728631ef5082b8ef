"""ONNX files: opened within bounds, and described; neither runs one."""
