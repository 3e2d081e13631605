"""python -m src.export: the weights of a run as safetensors or ONNX, held against torch on the whole test set."""
