"""Text tools without a model: token counts, lenient JSON and the grammar of wishes."""
