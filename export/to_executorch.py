"""Write a program for ExecuTorch: a `.pte` file."""
