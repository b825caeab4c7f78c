"""Renders the sample clips: textures, scenes, frames and files.

Decoded frames must be the same on every machine. So randomness is integer hashing, and
values that reach a pixel come from additions, multiplications, divisions, square roots
and roundings alone, one array operation each: IEEE 754 fixes all of these to the last
bit. Sines, powers and matrix products are not used on pixels.
"""
