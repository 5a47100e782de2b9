//! One measurement of a worker's load.

use serde::{Deserialize, Serialize, Serializer};

/// A resource that can make a worker full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// CPU time of the machine.
    Cpu,
    /// Fuel of the guests.
    Fuel,
    /// Memory of the machine.
    Memory,
    /// Slots for jobs (`max-jobs`).
    Jobs,
    /// The agent, which is not available.
    Agent,
}

impl Resource {
    /// The name that events use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "CPU",
            Self::Fuel => "fuel",
            Self::Memory => "memory",
            Self::Jobs => "jobs",
            Self::Agent => "agent",
        }
    }
}

impl Serialize for Resource {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// The figures that a load function combines. Shares are from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Sample {
    /// Share of the cores in use, by all processes of the worker's cgroup or of the machine; the average of 2.5 s.
    pub cpu: f64,
    /// Cores that the worker may use; fractional where a quota says so.
    pub cores: f64,
    /// Fuel in use, as a share of the fuel that the cores can burn at the guests' recent rate.
    pub fuel: f64,
    /// Fuel units a second; the average of 2.5 s.
    pub fuel_rate: f64,
    /// Share of the memory in use.
    pub memory: f64,
    /// Memory that the worker may use, in bytes.
    pub memory_bytes: u64,
    /// Jobs in any state, pending decisions included.
    pub jobs: usize,
    /// Most jobs that the worker may have (`max-jobs`).
    pub jobs_max: usize,
}

impl Sample {
    /// The default load function: the largest share of CPU, fuel and memory.
    pub fn largest(&self) -> f64 {
        self.cpu.max(self.fuel).max(self.memory)
    }

    /// The resource with the largest share.
    pub fn scarcest(&self) -> Resource {
        let largest = self.largest();
        if self.cpu >= largest {
            Resource::Cpu
        } else if self.fuel >= largest {
            Resource::Fuel
        } else {
            Resource::Memory
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_share_is_the_load_and_names_the_resource() {
        let sample = Sample { cpu: 0.1, fuel: 0.3, memory: 0.2, ..Sample::default() };
        assert_eq!((sample.largest(), sample.scarcest()), (0.3, Resource::Fuel));
        assert_eq!(Sample::default().scarcest(), Resource::Cpu);
    }
}
