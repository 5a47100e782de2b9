//! The capacity of a machine for an agent, extrapolated from the usage of one job. Pure.

use std::time::Duration;

use super::recent_jobs::{BYTES_OF_ROOM, CORES_OF_ROOM};

/// The average usage of one job, the host's own work for it included.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Need {
    /// CPU time.
    pub(crate) cpu: Duration,
    /// Time from the admission to the end.
    pub(crate) wall: Duration,
    /// Resident memory while the job runs.
    pub(crate) memory_bytes: f64,
}

/// The resources of a machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Machine {
    pub(crate) cores: f64,
    pub(crate) memory_bytes: f64,
    /// Instances that the memory mappings of one process suffice for.
    pub(crate) instances: u32,
    /// Rooms that the descriptors of one process suffice for.
    pub(crate) rooms: u32,
}

/// The resource that is exhausted first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bottleneck {
    Cpu,
    Memory,
    /// The memory mappings of one process, which the kernel limits.
    Mappings,
    /// The descriptors of one process: files and sockets.
    Descriptors,
}

impl Bottleneck {
    /// The name that `wasm-worker capacity` prints.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "CPU",
            Self::Memory => "memory",
            Self::Mappings => "memory mappings of one process",
            Self::Descriptors => "descriptors of one process",
        }
    }
}

/// The number of jobs that fit on a machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Fit {
    /// Concurrent jobs.
    pub(crate) at_once: u32,
    /// Jobs an hour.
    pub(crate) per_hour: f64,
    pub(crate) bottleneck: Bottleneck,
    /// Share of the cores in use.
    pub(crate) cpu: f64,
    /// Share of the memory in use.
    pub(crate) memory: f64,
}

impl Need {
    /// The same in a room on a server.
    pub(crate) fn in_room(self) -> Self {
        let memory_bytes = self.memory_bytes + BYTES_OF_ROOM;
        Self { cpu: self.cpu + self.wall.mul_f64(CORES_OF_ROOM), memory_bytes, ..self }
    }

    /// The most jobs with which the load of a machine stays below the threshold.
    pub(crate) fn fit(&self, machine: Machine, threshold: f64) -> Fit {
        let wall = self.wall.as_secs_f64().max(1e-6);
        let cores = self.cpu.as_secs_f64() / wall;
        let by_cpu = if cores > 0.0 { machine.cores * threshold / cores } else { f64::INFINITY };
        let by_memory =
            if self.memory_bytes > 0.0 { machine.memory_bytes * threshold / self.memory_bytes } else { f64::INFINITY };
        let by_mappings = (Bottleneck::Mappings, f64::from(machine.instances));
        let by_descriptors = (Bottleneck::Descriptors, f64::from(machine.rooms));
        let others = [by_descriptors, (Bottleneck::Memory, by_memory), (Bottleneck::Cpu, by_cpu)];
        let (bottleneck, most) =
            others.into_iter().fold(by_mappings, |least, bound| if bound.1 <= least.1 { bound } else { least });
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "at most the instances, which are a u32"
        )]
        let at_once = (most.floor() as u32).max(1);
        let jobs = f64::from(at_once);
        Fit {
            at_once,
            per_hour: jobs * 3_600.0 / wall,
            bottleneck,
            cpu: jobs * cores / machine.cores,
            memory: jobs * self.memory_bytes / machine.memory_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: Machine = Machine { cores: 4.0, memory_bytes: 16e9, instances: 10_000, rooms: 20_000 };

    #[test]
    fn the_resource_that_is_exhausted_first_is_the_bottleneck() {
        let millis = Duration::from_millis;
        let busy = Need { cpu: millis(100), wall: millis(1_000), memory_bytes: 1e6 };
        let fit = busy.fit(MACHINE, 0.75);
        assert_eq!((fit.at_once, fit.bottleneck), (30, Bottleneck::Cpu));
        assert!((fit.per_hour - 108_000.0).abs() < 1e-6 && (fit.cpu - 0.75).abs() < 1e-9, "{fit:?}");
        let large = Need { cpu: millis(1), memory_bytes: 100e6, ..busy };
        let fit = large.fit(MACHINE, 0.75);
        assert_eq!((fit.at_once, fit.bottleneck), (120, Bottleneck::Memory));
        let idle = Need { cpu: Duration::ZERO, memory_bytes: 0.0, ..busy };
        let fit = idle.fit(MACHINE, 0.75);
        assert_eq!((fit.at_once, fit.bottleneck), (10_000, Bottleneck::Mappings));
        assert_eq!(idle.fit(Machine { rooms: 900, ..MACHINE }, 0.75).bottleneck, Bottleneck::Descriptors);
        let in_room = idle.in_room();
        assert_eq!((in_room.cpu, in_room.memory_bytes), (Duration::from_micros(250), BYTES_OF_ROOM));
        let hog = Need { cpu: millis(9_000), wall: millis(1_000), memory_bytes: 0.0 };
        assert_eq!(hog.fit(MACHINE, 0.75).at_once, 1);
    }
}
