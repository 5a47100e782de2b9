//! How many jobs a machine takes, from what one of them takes; pure.

use std::time::Duration;

/// What one job takes, on average, the host's own work for it included.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Need {
    /// CPU time.
    pub(crate) cpu: Duration,
    /// From its admission to its end.
    pub(crate) wall: Duration,
    /// Resident memory while it runs.
    pub(crate) memory_bytes: f64,
}

/// What there is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Machine {
    pub(crate) cores: f64,
    pub(crate) memory_bytes: f64,
    /// Instances that the kernel has memory mappings for, in one process.
    pub(crate) instances: u32,
}

/// What fits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Fit {
    pub(crate) at_once: u32,
    pub(crate) per_hour: f64,
    /// What there would be too little of for one more.
    pub(crate) binds: &'static str,
    /// Of the cores and of the memory, with so many jobs.
    pub(crate) cpu: f64,
    pub(crate) memory: f64,
}

impl Need {
    /// So many jobs of this kind that a machine stays below the threshold.
    pub(crate) fn fit(&self, machine: Machine, threshold: f64) -> Fit {
        let wall = self.wall.as_secs_f64().max(1e-6);
        let cores = self.cpu.as_secs_f64() / wall;
        let by_cpu = if cores > 0.0 { machine.cores * threshold / cores } else { f64::INFINITY };
        let by_memory =
            if self.memory_bytes > 0.0 { machine.memory_bytes * threshold / self.memory_bytes } else { f64::INFINITY };
        let bounds =
            [("CPU", by_cpu), ("memory", by_memory), ("memory mappings of one process", f64::from(machine.instances))];
        let (binds, most) =
            bounds.into_iter().fold(("", f64::INFINITY), |least, bound| if bound.1 < least.1 { bound } else { least });
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
            binds,
            cpu: jobs * cores / machine.cores,
            memory: jobs * self.memory_bytes / machine.memory_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: Machine = Machine { cores: 4.0, memory_bytes: 16e9, instances: 10_000 };

    #[test]
    fn the_scarcest_binds() {
        let millis = Duration::from_millis;
        let busy = Need { cpu: millis(100), wall: millis(1_000), memory_bytes: 1e6 };
        let fit = busy.fit(MACHINE, 0.75);
        assert_eq!((fit.at_once, fit.binds), (30, "CPU"));
        assert!((fit.per_hour - 108_000.0).abs() < 1e-6 && (fit.cpu - 0.75).abs() < 1e-9, "{fit:?}");
        let large = Need { cpu: millis(1), memory_bytes: 100e6, ..busy };
        assert_eq!((large.fit(MACHINE, 0.75).at_once, large.fit(MACHINE, 0.75).binds), (120, "memory"));
        let idle = Need { cpu: Duration::ZERO, memory_bytes: 0.0, ..busy };
        assert_eq!(
            (idle.fit(MACHINE, 0.75).at_once, idle.fit(MACHINE, 0.75).binds),
            (10_000, "memory mappings of one process")
        );
        let hog = Need { cpu: millis(9_000), wall: millis(1_000), memory_bytes: 0.0 };
        assert_eq!(hog.fit(MACHINE, 0.75).at_once, 1);
    }
}
