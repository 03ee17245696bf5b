"""One group's schedule on a lane: servers loaded, runs taken in rounds, one at a time; never raises for a run."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from velosweep.config.settings import Prompt
from velosweep.llama_cpp.engine import ServerConfig
from velosweep.measuring.convergence import converged, iteration_speeds
from velosweep.measuring.events import PromptLeftOut, ServerFailed
from velosweep.measuring.lane_context import LaneContext
from velosweep.measuring.prompt_refusals import ran_well_before, record_refusal, refused_rounds
from velosweep.measuring.resident_servers import ResidentServers, run_once
from velosweep.planning.measurements import Measurement, Round, batches_after, launch_iterations, rounds, warmups
from velosweep.planning.server_groups import ServerGroup, without_prompts
from velosweep.tuning.search_driver import SearchDriver
from velosweep.values import MAX_RECOVERY_PROBES, Mode, Sample, Status


class GroupRunner:
    """Measures one group on a lane whose servers it is given. `interrupted`: it was stopped before its end."""

    def __init__(self, group: ServerGroup, context: LaneContext, servers: ResidentServers) -> None:
        self.group = group
        self.interrupted = False
        self._protocol = group.jobs[0].protocol
        self._context = context
        self._servers = servers
        self._driver: SearchDriver | None = None
        self._stop = context.stop
        self._done = context.recorder.done
        self._given_up: set[str] = set()
        self._warmup_errors: dict[str, str] = {}  # by server id
        self._began = time.monotonic()
        self._prompts_checked = False
        self._cool_after = (0, 0)  # the launch, and its vanilla passes, after which the machine was cool
        self._left_out: set[str] = set()  # ids of prompts
        self._failed_last: set[str] = set()  # ids of servers that failed at a prompt, and not run well since

    def has_work(self, launch: int) -> bool:
        """Whether a launch has anything left to measure."""
        missing = any(m.key not in self._done for round_ in rounds(self.group, launch) for m in round_)
        return missing and not self._decided(launch)

    def leave_out_refused(self) -> None:
        """Leave out prompts that an earlier run of the sweep was refused; an attached server may be another by now."""
        jobs = self.group.jobs
        for prompt in jobs[0].prompts.prompts if jobs[0].engine.kind != "attached" else ():
            errors = [self._context.refused.get((job.id, prompt.id)) for job in jobs]
            if errors[0] is not None and None not in errors:
                self._leave_out(prompt, errors[0])

    def open(self, launch: int) -> None:
        """Load and warm up the group's servers."""
        self._open(self.group.servers, launch)

    def measure(self, launch: int) -> Iterator[None]:
        """Measure what is still missing of a launch, a round each time that this is asked for the next.

        Ends early, as `interrupted` says, where an end is asked for.
        """
        iteration: int | None = None
        for round_ in list(rounds(self.group, launch)):
            if all(measurement.key in self._done for measurement in round_):
                yield  # groups that share rounds stay in step where one had come further than the others
                continue
            if self._stop.requested:
                self.interrupted = True
            if self.interrupted or self._cannot_go_on():
                return
            if round_[0].iteration != iteration:
                if self._decided(launch):
                    return
                if iteration is not None:  # kinds that learn from one request to the next get fresh servers
                    for server in self._stateful_servers:
                        self._servers.close(server)
                    self._open(self._stateful_servers, launch)
                iteration = round_[0].iteration
                self._cool_down(launch, round_[0])
            self._give_up_changed_files()
            for measurement in round_:
                if measurement.key in self._done or self._finished(measurement):
                    continue
                if self._cannot_go_on():
                    return
                if not self._measure_with_retries(round_, measurement):
                    self.interrupted = True
                    return
            yield

    def run_search(self, driver: SearchDriver) -> None:
        """Measure what `driver` asks for, which decides as it goes, or until an end is asked for.

        Servers are started when they are first needed; where memory is short, those that the round does not need
        make room.
        """
        self._driver = driver
        self.leave_out_refused()
        self._context.preload.finish()
        while (round_ := driver.next_round()) is not None:
            for server in self._stateful_servers:
                self._servers.close(server)
            self._give_up_changed_files()
            for measurement in round_:
                if self._cannot_go_on():
                    driver.vanilla_failed = True
                    return
                if not self._stop.requested:
                    if measurement.key in self._done or self._given_up_for(measurement):
                        continue
                    if self._measure_with_retries(round_, measurement):
                        continue
                self.interrupted = True
                return

    @property
    def _stateful_servers(self) -> list[ServerConfig]:
        """Servers of kinds that learn across requests: a later iteration would profit from earlier ones."""
        return [server for server in self.group.servers if server.speculation and server.speculation.keeps_state]

    def _cool_down(self, launch: int, first: Measurement) -> None:
        """Rest while the vanilla server is slower than in its first round, and probe its speed again, at most twice.

        Probes are kept as warm-ups of their iteration: shown, never averaged, and what the finding `untrusted` is taken
        from. A probe is one prompt's run: it is compared with that prompt's in the first round.
        """
        vanilla, job = self.group.vanilla, self.group.jobs[0]  # `first` may know prompts that are left out
        speeds = iteration_speeds(self._done, self.group, job.baseline_id, launch)
        newest = (launch, len(speeds))
        if vanilla is None or not speeds or not self._protocol.cooldown or newest == self._cool_after:
            return
        probe = replace(first, server=vanilla, prompt=job.prompts.prompts[0], warmup=True)
        at_first = self._done[replace(probe, iteration=launch_iterations(job, launch)[0]).key]
        baseline, latest = speeds[0], speeds[-1]
        for _ in range(MAX_RECOVERY_PROBES):
            if not self._context.cooldown.rest(self._protocol, baseline=baseline, latest=latest):
                self._cool_after = newest
                return
            if self._stop.requested or self._servers.get(vanilla) is None:
                return
            sample = self._take(probe)
            if sample is None or sample.tokens_per_second is None:
                return
            baseline, latest = at_first.tokens_per_second, sample.tokens_per_second

    def _decided(self, launch: int) -> bool:
        """Whether every job of the group has reached its target (only with an adaptive protocol)."""
        speculative = [(server, job) for server, job in self.group.servers_with_jobs if server.mode is Mode.SPECULATIVE]
        owners = [job.id for server, job in speculative if server.id not in self._given_up]
        took_s = time.monotonic() - self._began
        return bool(owners) and all(converged(self._done, self.group, one, launch, took_s=took_s) for one in owners)

    def _finished(self, measurement: Measurement) -> bool:
        server = measurement.server
        if self._given_up_for(measurement):
            return True
        return server.mode is Mode.SPECULATIVE and converged(
            self._done, self.group, measurement.owner, measurement.launch, before=measurement.iteration
        )

    def _cannot_go_on(self) -> bool:
        """Nothing more can be learnt: the baseline is given up, or every speculative server is."""
        vanilla, servers = self.group.vanilla, self.group.servers
        if vanilla is not None and vanilla.id in self._given_up:
            for server in servers[1:]:
                self._give_up(server, "the vanilla server of this comparison failed")
            return True
        return all(server.id in self._given_up for server in servers)

    def _given_up_for(self, measurement: Measurement) -> bool:
        return measurement.server.id in self._given_up or measurement.prompt.id in self._left_out

    def _give_up(self, server: ServerConfig, error: str) -> None:
        if server.id in self._given_up:
            return
        self._given_up.add(server.id)
        self._servers.close(server)
        jobs = self.group.jobs
        if server.mode is Mode.SPECULATIVE:
            jobs = tuple(job for own, job in self.group.servers_with_jobs if own == server)
        event = ServerFailed(lane=self._context.lane.number, server=server, jobs=jobs, error=error)
        self._context.recorder.event(event)

    def _give_up_changed_files(self) -> None:
        """Give up servers whose model files were written to while loaded: they read what nobody chose."""
        for server in self.group.servers:
            if self._servers.get(server) is not None:
                changed = self._context.model_files.changed(server, loaded=True)
                if changed is not None:
                    self._give_up(server, changed)

    def _open(self, servers: Sequence[ServerConfig], launch: int) -> None:
        """Have servers loaded and warmed up: one short run for each fresh server, kept and never averaged."""
        wanted = [server for server in servers if server.id not in self._given_up]
        loaded_before_s = self._servers.loading_s
        for server, error in self._servers.open(wanted, self._protocol):
            self._give_up(server, error)
        if self._driver is not None:
            self._driver.loading_s += self._servers.loading_s - loaded_before_s
        self._check_prompts(launch)
        for measurement in warmups(self.group, launch):
            loaded = self._servers.get(measurement.server)
            if self._stop.requested or loaded is None or loaded.warmed_up:
                continue
            loaded.warmed_up = True
            sample = self._take(measurement)
            if sample is not None and sample.error is not None:
                self._warmup_errors[measurement.server.id] = sample.error

    def _measure_with_retries(self, round_: Round, measurement: Measurement) -> bool:
        """A failed run repeats its whole pair; what fails `retries` times more is given up.

        False if an end was asked for before there was a good run.
        """
        error, culprit = "its runs failed", measurement.server
        for attempt in range(self._protocol.retries + 1):
            again = (*self._partners(round_, measurement), measurement) if attempt else (measurement,)
            for one in again:
                if self._stop.requested:
                    return False
                if self._servers.get(one.server) is None:
                    if self._driver is not None:
                        self._servers.make_room(one.server, [other.server for other in round_])
                    self._open([one.server], one.launch)
                if self._given_up_for(one):
                    if one is measurement or one.server.mode is Mode.VANILLA:
                        return True
                    continue  # the others of the pair go on without it
                if self._stop.requested:
                    return False
                if self._servers.get(one.server) is None:  # it came up, and died during its warm-up
                    error, culprit = self._warmup_errors.get(one.server.id, error), one.server
                    break
                batches = batches_after(one, round_)
                loaded, sample = self._servers.get(one.server), self._take(one, attempt, batches)
                if sample is None:  # given up at once, on request: the run is lost and nothing else
                    return False
                if sample.status is not Status.OK:
                    error, culprit = sample.error or error, one.server
                    if loaded is not None and one.prompt.id in loaded.refused:
                        self._refused(one.prompt, error)
                        return True
                    break
                self._failed_last.discard(one.server.id)
            else:
                return True
        ran = ran_well_before(culprit, self.group, measurement, self._done)
        if ran and culprit.id not in self._failed_last:  # the prompt seems to be the trouble, not the server
            self._failed_last.add(culprit.id)
            self._leave_out(measurement.prompt, f"{culprit.label}: {error}")
        else:
            self._give_up(culprit, error)
        return True

    def _check_prompts(self, launch: int) -> None:
        """Leave out prompts that can't be measured, before any is; asked once, of the first server that is loaded."""
        loaded = next((own for server in self.group.servers if (own := self._servers.get(server))), None)
        if loaded is None or self._prompts_checked or self._stop.requested:
            return
        self._prompts_checked = True
        with self._stop.closing(loaded.session.close):
            refused = refused_rounds(loaded, self.group, launch)
        for round_, error in refused:
            for run in round_:
                record_refusal(self._context, run, error)
            self._refused(round_[0].prompt, str(error))

    def _refused(self, prompt: Prompt, error: str) -> None:
        """Leave a prompt out for good: a sweep that goes on asks no server again."""
        job_ids = [job.id for job in self.group.jobs]
        self._context.recorder.journal.note("refused", prompt_id=prompt.id, job_ids=job_ids, error=error)
        self._leave_out(prompt, error)

    def _leave_out(self, prompt: Prompt, error: str) -> None:
        """Go on without this prompt; where it was the last one, give up every server."""
        self._left_out.add(prompt.id)
        rest = without_prompts(self.group, {prompt.id})
        if not rest.jobs[0].prompts.prompts:
            for server in self.group.servers:
                self._give_up(server, error)
            return
        self.group = rest
        lane = self._context.lane.number
        self._context.recorder.event(PromptLeftOut(lane=lane, prompt=prompt, jobs=rest.jobs, error=error))
        if self._driver is not None:
            self._driver.leave_out(prompt)

    def _partners(self, round_: Round, measurement: Measurement) -> Iterator[Measurement]:
        """The runs taken that are compared with this one: the vanilla run, or for that all speculative ones."""
        for other in round_:
            crosses = (other.server.mode is Mode.VANILLA) is not (measurement.server.mode is Mode.VANILLA)
            if crosses and other.key in self._done and other.server.id not in self._given_up:
                yield other

    def _take(self, measurement: Measurement, attempt: int = 0, batches: tuple[int, ...] = ()) -> Sample | None:
        sample = run_once(self._context, self._servers, measurement, attempt, batches)
        if sample is not None and self._driver is not None:
            self._driver.record(measurement, sample)
        return sample
