"""Selection side by side: explanation score and entropy of every text of a pool."""
