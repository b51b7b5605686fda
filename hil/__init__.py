"""A pytest plugin and its parts for tests with hardware in the loop: wires, faults, boards and benches."""
