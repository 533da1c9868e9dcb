"""How networks are searched. `METHODS` maps a name to its method; one file or folder each."""

from workers.methods import budgeted, clipped_lasso, prunet, random_search, reds, reg_nas

METHODS = {
    "budgeted": budgeted.METHOD,
    "clipped_lasso": clipped_lasso.METHOD,
    "prunet": prunet.METHOD,
    "random": random_search.METHOD,
    "reds": reds.METHOD,
    "reg_nas": reg_nas.METHOD,
}
