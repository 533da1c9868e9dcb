"""Reservations on a Ray cluster that nobody holds any more."""

from __future__ import annotations

import ray
from ray import ActorID, PlacementGroupID
from ray._private.state import state
from ray.core.generated.gcs_pb2 import PlacementGroupTableData  # type: ignore[attr-defined]
from ray.util.placement_group import PlacementGroup, remove_placement_group


def free_orphans() -> None:
    """Free what dead actors of this job had reserved: Ray keeps it until the job ends.

    Train's controllers reserve room for their workers. Train frees that of a killed one where a
    dashboard runs, and only then; without it, the next controller would wait for ever. No public
    call tells who made a reservation.
    """
    job = ray.get_runtime_context().get_job_id()
    for contents in state._connect_and_get_accessor().get_placement_group_table():
        group = PlacementGroupTableData.FromString(contents)
        made_by_actor = not ActorID(group.creator_actor_id).is_nil()
        is_orphan = made_by_actor and group.creator_actor_dead
        is_free = group.state == PlacementGroupTableData.REMOVED
        if group.creator_job_id.hex() == job and is_orphan and not is_free:
            remove_placement_group(PlacementGroup(PlacementGroupID(group.placement_group_id)))
