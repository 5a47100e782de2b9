//! One measurement of a worker's load.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A resource that can make a worker full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum Resource {
    /// CPU time of the machine.
    #[serde(rename = "CPU")]
    Cpu,
    /// Fuel of the guests.
    #[serde(rename = "fuel")]
    Fuel,
    /// Memory of the machine.
    #[serde(rename = "memory")]
    Memory,
    /// Slots for jobs (`max-jobs`).
    #[serde(rename = "jobs")]
    Jobs,
    /// Descriptors of the process: open files and sockets.
    #[serde(rename = "descriptors")]
    Descriptors,
    /// The agent, which is not available.
    #[serde(rename = "agent")]
    Agent,
    /// Jobs of the agent (`agent-max-jobs`).
    #[serde(rename = "agent-jobs")]
    AgentJobs,
    /// CPU cores of the agent (`agent-cores`).
    #[serde(rename = "agent-cores")]
    AgentCores,
    /// Tokens of the agent's models (`daily-tokens`).
    #[serde(rename = "agent-tokens")]
    AgentTokens,
}

impl Resource {
    /// The name that events use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "CPU",
            Self::Fuel => "fuel",
            Self::Memory => "memory",
            Self::Jobs => "jobs",
            Self::Descriptors => "descriptors",
            Self::Agent => "agent",
            Self::AgentJobs => "agent-jobs",
            Self::AgentCores => "agent-cores",
            Self::AgentTokens => "agent-tokens",
        }
    }
}

/// The resource that makes a worker full, with its figure and the limit of that.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
pub struct Scarcity {
    /// The resource.
    pub resource: Resource,
    /// The use: a load of 0 to 1, or a number of jobs, descriptors, cores or tokens.
    pub used: f64,
    /// The use from which on the worker is full: `load-threshold`, `max-jobs`, the limit of the process, or one of the agent.
    pub limit: f64,
}

impl fmt::Display for Scarcity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { resource, used, limit } = self;
        let name = resource.as_str();
        match resource {
            Resource::Cpu | Resource::Fuel | Resource::Memory => {
                write!(f, "{name} {:.0} %, `load-threshold` {:.0} %", used * 100.0, limit * 100.0)
            }
            Resource::Jobs => write!(f, "{name} {used:.0}, `max-jobs` {limit:.0}"),
            Resource::Descriptors => write!(f, "{name} {used:.0}, of {limit:.0} that the process may have"),
            Resource::Agent => f.write_str("its agent is not available"),
            Resource::AgentJobs => write!(f, "jobs of its agent {used:.0}, `agent-max-jobs` {limit:.0}"),
            Resource::AgentCores => write!(f, "cores of its agent {used:.2}, `agent-cores` {limit}"),
            Resource::AgentTokens => write!(f, "tokens of its agent {used:.0} in 24 h, `daily-tokens` {limit:.0}"),
        }
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

    #[test]
    fn a_scarcity_names_resource_figure_and_limit() {
        let scarce = |resource, used, limit| Scarcity { resource, used, limit }.to_string();
        assert_eq!(scarce(Resource::Cpu, 0.99, 0.75), "CPU 99 %, `load-threshold` 75 %");
        assert_eq!(scarce(Resource::Jobs, 10.0, 10.0), "jobs 10, `max-jobs` 10");
        assert_eq!(scarce(Resource::Descriptors, 990.0, 1024.0), "descriptors 990, of 1024 that the process may have");
        assert_eq!(scarce(Resource::AgentCores, 0.512, 0.5), "cores of its agent 0.51, `agent-cores` 0.5");
        let json = serde_json::to_string(&Scarcity { resource: Resource::Cpu, used: 0.5, limit: 0.25 }).unwrap();
        assert_eq!(json, r#"{"resource":"CPU","used":0.5,"limit":0.25}"#);
        assert_eq!(serde_json::from_str::<Scarcity>(&json).unwrap().resource, Resource::Cpu);
    }
}
