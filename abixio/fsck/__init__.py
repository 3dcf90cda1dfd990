"""The offline checker: what is wrong with the volumes of a stopped pool, and how it is made whole again."""
