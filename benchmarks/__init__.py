"""How fast attacks on ensembles are: this project beside the libraries that others use."""
