"""Write a program for LiteRT: a `.tflite` file."""
