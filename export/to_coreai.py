"""Write a program for Core AI: an `.aimodel` asset (experimental)."""
