"""One lane's schedule: group after group, those that differ in the build of llama.cpp alone in the same rounds."""

from collections.abc import Sequence

from velosweep.measuring.events import GroupEnded
from velosweep.measuring.lane_context import Cooldown, LaneContext
from velosweep.measuring.lane_runner import GroupRunner
from velosweep.measuring.resident_servers import ResidentServers
from velosweep.planning.lane_queue import LaneQueue


def run_lane(queue: LaneQueue, context: LaneContext) -> None:
    """Take groups until there are none or an end is asked for. Servers that the next group needs stay loaded.

    GroupEnded says that nothing of a group is left to do. Raises StorageError where a sample can't be recorded.
    """
    servers, cooldown = ResidentServers(context), Cooldown(context.monitor, context.stop)
    try:
        while not context.stop.requested and (groups := queue.take(context.lane.number)):
            runners = [GroupRunner(group, context, servers, cooldown) for group in groups]
            driver = context.recorder.search_drivers.get(groups[0])
            if driver is not None:
                runners[0].run_search(driver)
            else:
                _measure_together(runners, servers, context)
            for group, runner in zip(groups, runners, strict=True):
                if not runner.interrupted:
                    context.recorder.event(GroupEnded(lane=context.lane.number, group=group))
    finally:
        servers.keep_only(())


def _measure_together(runners: Sequence[GroupRunner], servers: ResidentServers, context: LaneContext) -> None:
    """Launch by launch, the groups' rounds in turn: A B, B A, ... so that a drift cancels between them, too."""
    for launch in range(runners[0].group.jobs[0].protocol.launches):
        beginning = [runner for runner in runners if not runner.interrupted and runner.begins(launch)]
        if not beginning:
            continue
        kept = [server for runner in beginning for server in runner.group.servers]
        servers.keep_only(kept if launch == 0 else ())
        for runner in beginning:
            runner.open(launch)
        context.preload.finish()  # runs that count wait until nothing of ours works beside them
        going = [runner.measure(launch) for runner in beginning]
        while going:
            going = [rounds for rounds in going if next(rounds, rounds) is not rounds][::-1]
