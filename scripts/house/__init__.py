"""The structure of the code as figures and as a picture, from the code alone: `make house`, and a part of `make check`."""
