//! Sums over the bills of jobs.
//!
//! Bills come from workers, and name what their agents like. Bounds: all sums take about [`SUMS_BYTES_MAX`] together, less than an
//! answer may have. What has a new name beyond that is summed as [`OTHERS`].

use std::collections::BTreeMap;

use crate::answers::ANSWER_BYTES_MAX;
use wasm_worker_core::api::usage::{OTHERS, UsageBy, UsageList, UsageSums, WorkSums};
use wasm_worker_core::network::traffic::Traffic;
use wasm_worker_core::usage::{AudioUse, ModelSums, UsageRecord};

/// Most bytes of all sums in JSON. The sums of [`OTHERS`], which are not counted, have the rest of an answer.
const SUMS_BYTES_MAX: usize = ANSWER_BYTES_MAX / 4 * 3;
/// Most bytes of the sums of one name in JSON, without the name: ten numbers of 20 digits, with their keys.
const NUMBERS_BYTES: usize = 400;
/// Most bytes of the sums of sound of one agent or key in JSON: ten more numbers.
const AUDIO_BYTES: usize = 400;

/// Sums over bills.
#[derive(Debug)]
pub(crate) struct Bills {
    by: UsageBy,
    jobs: u64,
    unmeasured: u64,
    groups: BTreeMap<String, Group>,
    space: Space,
}

/// The sums of one name.
#[derive(Debug, Default)]
struct Group {
    jobs: u64,
    unmeasured: u64,
    work: WorkSums,
    network: Traffic,
    audio: AudioUse,
    models: BTreeMap<ModelName, BTreeMap<String, f64>>,
}

/// Kind, provider and name of a model.
type ModelName = (String, String, String);

/// The bytes that are left for new sums.
#[derive(Debug)]
struct Space(usize);

impl Bills {
    pub(crate) fn new(by: UsageBy) -> Self {
        Self { by, jobs: 0, unmeasured: 0, groups: BTreeMap::new(), space: Space(SUMS_BYTES_MAX) }
    }

    /// Add the bill of a job, as its worker reported it, where it did.
    pub(crate) fn add(&mut self, agent: &str, key: &str, bill: Option<&str>) {
        let usage = bill.and_then(|bill| serde_json::from_str::<UsageRecord>(bill).ok());
        self.jobs += 1;
        self.unmeasured += u64::from(usage.is_none());
        match self.by {
            UsageBy::Agent => self.add_job(agent, usage),
            UsageBy::Key => self.add_job(key, usage),
            UsageBy::Host => usage.into_iter().for_each(|usage| self.add_hosts(usage.network.by_host)),
        }
    }

    fn add_job(&mut self, name: &str, usage: Option<UsageRecord>) {
        let Self { groups, space, .. } = self;
        let group = space.entry(groups, name.to_owned(), json_bytes(name) + AUDIO_BYTES, OTHERS.to_owned());
        group.jobs += 1;
        let Some(UsageRecord { wall_us, cpu_us, fuel, network, audio, models, .. }) = usage else {
            group.unmeasured += 1;
            return;
        };
        group.work.wall_us = group.work.wall_us.saturating_add(wall_us);
        group.work.cpu_us = group.work.cpu_us.saturating_add(cpu_us);
        group.work.fuel = group.work.fuel.saturating_add(fuel);
        group.network.add(&network.all);
        group.audio.sum(&audio);
        for ModelSums { kind, provider, model, counters } in models {
            let bytes = [&kind, &provider, &model].into_iter().map(|name| json_bytes(name)).sum();
            let others = (OTHERS.to_owned(), OTHERS.to_owned(), OTHERS.to_owned());
            let sums = space.entry(&mut group.models, (kind, provider, model), bytes, others);
            for (counter, amount) in counters {
                let bytes = json_bytes(&counter);
                let sum = space.entry(sums, counter, bytes, OTHERS.to_owned());
                // JSON has no infinity.
                *sum = (*sum + amount).clamp(f64::MIN, f64::MAX);
            }
        }
    }

    fn add_hosts(&mut self, hosts: BTreeMap<String, Traffic>) {
        for (host, traffic) in hosts {
            let bytes = json_bytes(&host);
            let group = self.space.entry(&mut self.groups, host, bytes, OTHERS.to_owned());
            group.jobs += 1;
            group.network.add(&traffic);
        }
    }

    /// The sums of the bills of this period, in Unix times in nanoseconds.
    pub(crate) fn list(self, since_ns: i64, until_ns: i64) -> UsageList {
        let Self { by, jobs, unmeasured, groups, .. } = self;
        let sums = groups.into_iter().map(|(name, group)| group.sums(name, by)).collect();
        UsageList { by, since_ns, until_ns, jobs, unmeasured, sums }
    }
}

impl Group {
    fn sums(self, name: String, by: UsageBy) -> UsageSums {
        let Self { jobs, unmeasured, work, network, audio, models } = self;
        let work = (by != UsageBy::Host).then_some(work);
        let models = models.into_iter();
        let models =
            models.map(|((kind, provider, model), counters)| ModelSums { kind, provider, model, counters }).collect();
        UsageSums { name, jobs, unmeasured, work, network, audio, models }
    }
}

impl Space {
    /// The entry of a name of so many bytes, or that of all others where no space is left for a new name.
    fn entry<'a, K: Ord, V: Default>(
        &mut self,
        entries: &'a mut BTreeMap<K, V>,
        name: K,
        bytes: usize,
        others: K,
    ) -> &'a mut V {
        if entries.contains_key(&name) {
            return entries.entry(name).or_default();
        }
        match self.0.checked_sub(bytes + NUMBERS_BYTES) {
            Some(left) => {
                self.0 = left;
                entries.entry(name).or_default()
            }
            None => entries.entry(others).or_default(),
        }
    }
}

/// The bytes of a text in JSON, at most.
fn json_bytes(text: &str) -> usize {
    let bytes = |byte: u8| match byte {
        0..0x20 => 6,
        b'"' | b'\\' => 2,
        _ => 1,
    };
    text.bytes().map(bytes).sum()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::answers::to_json;

    fn bill(model: &str, tokens: f64, host: &str) -> String {
        let traffic = json!({ "requests": 2, "bytes_sent": 10, "bytes_received": 300 });
        let models =
            json!([{ "kind": "llm", "provider": "p", "model": model, "counters": { "input_tokens": tokens } }]);
        let network = json!({ "all": traffic, "by_host": { host: traffic } });
        let audio = json!({ "heard_ms": 1_500, "spoken_ms": 20, "packets_lost": 1, "jitter_us": 9, "cpu_us": 2 });
        json!({ "wall_us": 5, "cpu_us": 3, "fuel": 7, "network": network, "audio": audio, "models": models })
            .to_string()
    }

    #[test]
    fn bills_are_summed_by_agent_key_or_host() {
        let sums = |by| {
            let mut bills = Bills::new(by);
            bills.add("a", "k1", Some(&bill("m", 4.0, "x.test")));
            bills.add("a", "k2", Some(&bill("m", 6.0, "y.test")));
            bills.add("b", "k2", Some(&bill("n", 1.0, "x.test")));
            bills.add("b", "k2", None);
            bills.add("b", "k2", Some("{\"fuel\":-1}"));
            bills.list(1, 9)
        };
        let agents = sums(UsageBy::Agent);
        assert_eq!((agents.jobs, agents.unmeasured, agents.since_ns, agents.until_ns), (5, 2, 1, 9));
        let [a, b] = &agents.sums[..] else { panic!("{agents:?}") };
        assert_eq!((a.name.as_str(), a.jobs, a.unmeasured), ("a", 2, 0));
        assert_eq!(a.work, Some(WorkSums { wall_us: 10, cpu_us: 6, fuel: 14 }));
        assert_eq!((a.network.requests, a.network.bytes_sent, a.network.bytes_received), (4, 20, 600));
        let sound = AudioUse { heard_ms: 3_000, spoken_ms: 40, packets_lost: 2, jitter_us: 9, cpu_us: 4, ..a.audio };
        assert_eq!((a.audio, a.audio.packets_sent), (sound, 0));
        assert_eq!((a.models.len(), a.models[0].counters["input_tokens"]), (1, 10.0));
        assert_eq!((b.name.as_str(), b.jobs, b.unmeasured, b.models[0].model.as_str()), ("b", 3, 2, "n"));
        let keys = sums(UsageBy::Key);
        let named = |list: &UsageList| list.sums.iter().map(|sums| (sums.name.clone(), sums.jobs)).collect::<Vec<_>>();
        assert_eq!(named(&keys), [("k1".to_owned(), 1), ("k2".to_owned(), 4)]);
        assert_eq!(keys.sums[1].models.len(), 2);
        let hosts = sums(UsageBy::Host);
        assert_eq!(named(&hosts), [("x.test".to_owned(), 2), ("y.test".to_owned(), 1)]);
        assert_eq!((hosts.sums[0].work, hosts.sums[0].network.requests, hosts.sums[0].models.len()), (None, 4, 0));
        assert_eq!((hosts.jobs, hosts.unmeasured), (5, 2));
        assert!(hosts.sums.iter().all(|sums| sums.audio.is_empty()));
    }

    #[test]
    fn sums_are_bounded_and_what_is_beyond_is_summed_together() {
        for filler in ["x", "\u{1}", "\""] {
            let long = filler.repeat(1_000);
            let mut bills = Bills::new(UsageBy::Agent);
            for n in 0..20_000 {
                bills.add("a", "k", Some(&bill(&format!("{long}{n}"), 1.0, "x.test")));
            }
            bills.add("another", "k", Some(&bill("m", 1.0, "x.test")));
            let list = bills.list(0, 1);
            let names: Vec<&str> = list.sums.iter().map(|sums| sums.name.as_str()).collect();
            assert!(names.contains(&"a") && list.sums[0].jobs + list.sums[1].jobs == 20_001, "{names:?}");
            let models = list.sums.iter().flat_map(|sums| &sums.models);
            let tokens: f64 = models.flat_map(|model| model.counters.values()).sum();
            assert_eq!((tokens, list.jobs), (20_001.0, 20_001));
            let sums = list.sums.iter().find(|sums| sums.name == "a").unwrap();
            assert!(sums.models.len() < 10_000 && sums.models[0].model == OTHERS, "{}", sums.models.len());
            assert!(to_json(&list).is_ok_and(|json| json.len() > SUMS_BYTES_MAX / 2));
        }
    }

    #[test]
    fn sums_stay_numbers_that_json_has() {
        let mut bills = Bills::new(UsageBy::Agent);
        for _ in 0..3 {
            bills.add("a", "k", Some(&bill("m", f64::MAX, "x.test")));
            bills.add("a", "k", Some(r#"{"fuel":18446744073709551615,"audio":{"heard_ms":18446744073709551615}}"#));
        }
        let list = bills.list(0, 1);
        assert_eq!(
            (list.sums[0].work.unwrap().fuel, list.sums[0].models[0].counters["input_tokens"]),
            (u64::MAX, f64::MAX)
        );
        assert_eq!(list.sums[0].audio.heard_ms, u64::MAX);
        let json = to_json(&list).unwrap();
        assert_eq!(serde_json::from_slice::<UsageList>(&json).unwrap(), list);
    }
}
