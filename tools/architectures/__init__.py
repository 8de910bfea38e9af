"""The networks this project trains and ships, as torch modules."""
