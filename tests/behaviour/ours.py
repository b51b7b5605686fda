"""This project's RPyC under the names the behaviour tests use; `stock.py` is its twin."""
