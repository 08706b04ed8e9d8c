"""A command in several processes of one machine: who starts them, and what each tells whoever has started it."""
