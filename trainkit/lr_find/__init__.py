"""``trainkit lr-find``: one short test that raises the learning rate, or another number, and says where it is good."""
