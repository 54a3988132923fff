"""Information geometry for people who want to understand neural language models: the mathematics."""
