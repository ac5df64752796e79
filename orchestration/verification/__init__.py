"""Verification: the trained model against its ONNX graph. The entry is orchestration.verify."""
