"""Write a program for TensorRT: a strongly typed ONNX file and the script that builds its engine on the device."""
