"""How a call of each op is read and bound to its formula. Imports formulas and `rules.call`."""
