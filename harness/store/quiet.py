"""How much MLflow, and what it stands on, may say."""

import logging

NOISY = ("mlflow", "alembic", "sqlalchemy", "urllib3", "git")


def quieten(level: int) -> None:
    """Set the level of the loggers of MLflow and of what it stands on.

    Unless all of it is wanted, the traceback that MLflow logs beside each error of its database
    (a full disk, say) is not: the error itself is raised, too.
    """
    for name in NOISY:
        logging.getLogger(name).setLevel(level)
    errors = logging.CRITICAL if level > logging.INFO else level
    logging.getLogger("mlflow.store.db.utils").setLevel(errors)
