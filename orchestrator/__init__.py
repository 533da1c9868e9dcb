"""The driver: studies in, Pareto fronts out. `load` reads the results of a study."""

from orchestrator.loading import Study, load

__all__ = ["Study", "load"]
