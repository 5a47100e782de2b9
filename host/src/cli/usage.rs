//! `wasm-worker usage`: sums over the bills of a dispatcher's jobs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clap::{Args, ValueEnum};
use wasm_worker_core::api::usage::{UsageBy, UsageList, UsageSums, WorkSums};
use wasm_worker_core::duration;
use wasm_worker_core::text::{one_line, plural};
use wasm_worker_core::usage::{AudioUse, ModelSums};

use super::client::ClientFlags;
use super::job::now_ns;
use super::table::{Column, amount, bytes, table, time};
use super::{Exit, Failure, print, print_json, say};

#[derive(Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
pub(crate) struct UsageArgs {
    /// Sum the bills by agent, by the API key that created the dispatch, or by the host that jobs reached
    #[arg(long, value_name = "WHAT", default_value = "agent")]
    by: By,
    /// Sum the bills of the jobs that ended in this time up to now
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = duration::parse)]
    since: Duration,
    /// Print one JSON object a line
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print CSV, with a column for each counter of each model
    #[arg(long)]
    csv: bool,
    #[command(flatten)]
    client: ClientFlags,
}

#[derive(Clone, Copy, ValueEnum)]
enum By {
    Agent,
    Key,
    Host,
}

pub(crate) fn run(args: UsageArgs) -> Result<Exit, Failure> {
    let by = match args.by {
        By::Agent => UsageBy::Agent,
        By::Key => UsageBy::Key,
        By::Host => UsageBy::Host,
    };
    let since_ns = now_ns().saturating_sub(i64::try_from(args.since.as_nanos()).unwrap_or(i64::MAX));
    let path = format!("/usage?by={}&since_ns={}", by.as_str(), since_ns.max(0));
    let list: UsageList = args.client.client()?.get(&path)?;
    if args.json {
        list.sums.iter().try_for_each(print_json)?;
    } else if args.csv {
        csv(&list).iter().try_for_each(|line| print(line))?;
    } else if list.sums.is_empty() {
        print("no usage")?;
    } else {
        print(&text(&list))?;
    }
    if list.unmeasured > 0 {
        let (some, all) = (list.unmeasured, plural(usize::try_from(list.jobs).unwrap_or(usize::MAX), "job"));
        say(&format!("note: {some} of {all} have no bill: their workers were lost, or report none"));
    }
    Ok(Exit::Ok)
}

/// A table for people.
fn text(UsageList { by, sums, .. }: &UsageList) -> String {
    if *by == UsageBy::Host {
        return table(HOST_COLUMNS, &sums.iter().map(host_row).collect::<Vec<_>>());
    }
    let mut columns = COLUMNS;
    if *by == UsageBy::Key {
        columns[0] = Column::Left("KEY");
    }
    if sums.iter().all(|sums| sums.audio.is_empty()) {
        return table(columns, &sums.iter().map(row).collect::<Vec<_>>());
    }
    let [agent, jobs, time, cpu, fuel, requests, sent, received, models] = columns;
    let (heard, spoken) = (Column::Right("HEARD"), Column::Right("SPOKEN"));
    let columns = [agent, jobs, time, cpu, fuel, requests, sent, received, heard, spoken, models];
    table(columns, &sums.iter().map(row_with_sound).collect::<Vec<_>>())
}

const COLUMNS: [Column; 9] = [
    Column::Left("AGENT"),
    Column::Right("JOBS"),
    Column::Right("TIME"),
    Column::Right("CPU"),
    Column::Right("FUEL"),
    Column::Right("REQUESTS"),
    Column::Right("SENT"),
    Column::Right("RECEIVED"),
    Column::Left("MODELS"),
];

const HOST_COLUMNS: [Column; 7] = [
    Column::Left("HOST"),
    Column::Right("JOBS"),
    Column::Right("REQUESTS"),
    Column::Right("SOCKETS"),
    Column::Right("FAILURES"),
    Column::Right("SENT"),
    Column::Right("RECEIVED"),
];

fn row(UsageSums { name, jobs, work, network, models, .. }: &UsageSums) -> [String; 9] {
    let WorkSums { wall_us, cpu_us, fuel } = work.unwrap_or_default();
    let of_micros = |micros| time(Duration::from_micros(micros));
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let fuel = fuel as f64;
    [
        name.clone(),
        jobs.to_string(),
        of_micros(wall_us),
        of_micros(cpu_us),
        amount(fuel),
        network.requests.to_string(),
        bytes(network.bytes_sent),
        bytes(network.bytes_received),
        models.iter().map(model_text).collect::<Vec<_>>().join("; "),
    ]
}

fn row_with_sound(sums: &UsageSums) -> [String; 11] {
    let [name, jobs, time_, cpu, fuel, requests, sent, received, models] = row(sums);
    let [heard, spoken] = [sums.audio.heard_ms, sums.audio.spoken_ms].map(|ms| time(Duration::from_millis(ms)));
    [name, jobs, time_, cpu, fuel, requests, sent, received, heard, spoken, models]
}

fn host_row(UsageSums { name, jobs, network, .. }: &UsageSums) -> [String; 7] {
    [
        name.clone(),
        jobs.to_string(),
        network.requests.to_string(),
        network.sockets.to_string(),
        network.failures.to_string(),
        bytes(network.bytes_sent),
        bytes(network.bytes_received),
    ]
}

/// `MODEL: input_tokens 1234, output_tokens 56`
fn model_text(ModelSums { model, counters, .. }: &ModelSums) -> String {
    let counters: Vec<String> = counters.iter().map(|(name, sum)| format!("{name} {}", amount(*sum))).collect();
    format!("{model}: {}", counters.join(", "))
}

/// The lines of a file in CSV (RFC 4180, without its carriage returns), with the names of the JSON.
fn csv(UsageList { by, sums, .. }: &UsageList) -> Vec<String> {
    let of_models = sums.iter().flat_map(|sums| counters(sums).map(|(column, _)| column)).collect::<BTreeSet<_>>();
    let work = ["wall_us", "cpu_us", "fuel"].into_iter().filter(|_| *by != UsageBy::Host);
    let network = ["requests", "sockets", "failures", "bytes_sent", "bytes_received"];
    let columns = [by.as_str(), "jobs", "unmeasured"].into_iter().chain(work).chain(network).map(str::to_owned);
    let audio = audio(&AudioUse::default()).into_iter().filter(|_| *by != UsageBy::Host);
    let columns = columns.chain(audio.map(|(name, _)| format!("audio/{name}")));
    let head = columns.chain(of_models.iter().map(|column| csv_text(column))).collect::<Vec<_>>().join(",");
    std::iter::once(head).chain(sums.iter().map(|sums| csv_line(sums, &of_models))).collect()
}

fn csv_line(sums: &UsageSums, of_models: &BTreeSet<String>) -> String {
    let UsageSums { name, jobs, unmeasured, work, network, audio: sound, .. } = sums;
    // A host has neither.
    let sound = work.iter().flat_map(|_| audio(sound).map(|(_, number)| number));
    let work = work.iter().flat_map(|work| [work.wall_us, work.cpu_us, work.fuel]);
    let network = [network.requests, network.sockets, network.failures, network.bytes_sent, network.bytes_received];
    let numbers = [*jobs, *unmeasured].into_iter().chain(work).chain(network).chain(sound);
    let numbers = numbers.map(|number| number.to_string());
    let own: BTreeMap<String, f64> = counters(sums).collect();
    let of_models = of_models.iter().map(|column| own.get(column).map(|sum| sum.to_string()).unwrap_or_default());
    std::iter::once(csv_text(name)).chain(numbers).chain(of_models).collect::<Vec<_>>().join(",")
}

/// The figures of sound that have a column, by their names in the JSON. `jitter_us` is the highest one, the others are sums.
const fn audio(sums: &AudioUse) -> [(&'static str, u64); 11] {
    [
        ("heard_ms", sums.heard_ms),
        ("spoken_ms", sums.spoken_ms),
        ("concealed_ms", sums.concealed_ms),
        ("dropped_ms", sums.dropped_ms),
        ("packets_received", sums.packets_received),
        ("packets_lost", sums.packets_lost),
        ("packets_sent", sums.packets_sent),
        ("frames_late", sums.frames_late),
        ("late_us", sums.late_us),
        ("jitter_us", sums.jitter_us),
        ("cpu_us", sums.cpu_us),
    ]
}

/// The sums of the models, by the names of their columns.
fn counters(sums: &UsageSums) -> impl Iterator<Item = (String, f64)> {
    sums.models.iter().flat_map(|ModelSums { kind, provider, model, counters }| {
        counters.iter().map(move |(name, sum)| (format!("{kind}/{provider}/{model}/{name}"), *sum))
    })
}

/// A text as a cell. A spreadsheet takes some texts for formulas, and agents choose the names of models.
fn csv_text(text: &str) -> String {
    let text = one_line(text);
    let formula = text.starts_with(['=', '+', '-', '@']);
    let text = format!("{}{text}", if formula { "'" } else { "" });
    if text.contains([',', '"']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use wasm_worker_core::network::traffic::Traffic;

    use super::*;

    fn sums(name: &str, model: &str) -> UsageSums {
        let network = Traffic { requests: 3, bytes_sent: 2_048, bytes_received: 5 << 20, ..Traffic::default() };
        let counters = BTreeMap::from([("input_tokens".to_owned(), 1_234_567.0), ("seconds".to_owned(), 0.5)]);
        let model = ModelSums { kind: "llm".into(), provider: "p".into(), model: model.into(), counters };
        let work = Some(WorkSums { wall_us: 90_000_000, cpu_us: 12_000, fuel: 2_500_000_000 });
        let audio = AudioUse::default();
        UsageSums { name: name.into(), jobs: 2, unmeasured: 1, work, network, audio, models: vec![model] }
    }

    fn list(by: UsageBy, sums: Vec<UsageSums>) -> UsageList {
        UsageList { by, since_ns: 0, until_ns: 1, jobs: 2, unmeasured: 1, sums }
    }

    #[test]
    fn table_has_sums_in_units_for_people() {
        let shown = text(&list(UsageBy::Agent, vec![sums("greeter", "small")]));
        let expected = "\
AGENT    JOBS   TIME   CPU  FUEL  REQUESTS    SENT  RECEIVED  MODELS
greeter     2  1m30s  12ms  2.5G         3  2.0KiB    5.0MiB  small: input_tokens 1.2M, seconds 0.5";
        assert_eq!(shown, expected);
        let audio = AudioUse { heard_ms: 61_000, spoken_ms: 1_500, ..AudioUse::default() };
        let shown = text(&list(UsageBy::Agent, vec![UsageSums { audio, ..sums("greeter", "small") }]));
        let expected = "\
AGENT    JOBS   TIME   CPU  FUEL  REQUESTS    SENT  RECEIVED  HEARD  SPOKEN  MODELS
greeter     2  1m30s  12ms  2.5G         3  2.0KiB    5.0MiB  1m01s      1s  small: input_tokens 1.2M, seconds 0.5";
        assert_eq!(shown, expected);
        let host = UsageSums { work: None, models: Vec::new(), ..sums("x.test", "") };
        let expected = "\
HOST    JOBS  REQUESTS  SOCKETS  FAILURES    SENT  RECEIVED
x.test     2         3        0         0  2.0KiB    5.0MiB";
        assert_eq!(text(&list(UsageBy::Host, vec![host])), expected);
    }

    #[test]
    fn csv_has_a_column_for_each_counter_and_no_formula() {
        let audio = AudioUse { heard_ms: 61_000, cpu_us: 7, ..AudioUse::default() };
        let with_sound = |sums| UsageSums { audio, ..sums };
        let lines = csv(&list(UsageBy::Key, [sums("=a,b", "m"), sums("k\"\n", "n")].map(with_sound).into()));
        let head = "key,jobs,unmeasured,wall_us,cpu_us,fuel,requests,sockets,failures,bytes_sent,bytes_received";
        let sound = "audio/heard_ms,audio/spoken_ms,audio/concealed_ms,audio/dropped_ms,audio/packets_received,\
            audio/packets_lost,audio/packets_sent,audio/frames_late,audio/late_us,audio/jitter_us,audio/cpu_us";
        let models = "llm/p/m/input_tokens,llm/p/m/seconds,llm/p/n/input_tokens,llm/p/n/seconds";
        assert_eq!(lines[0], format!("{head},{sound},{models}"));
        let numbers = "2,1,90000000,12000,2500000000,3,0,0,2048,5242880,61000,0,0,0,0,0,0,0,0,0,7";
        assert_eq!(lines[1], format!("\"'=a,b\",{numbers},1234567,0.5,,"));
        assert_eq!(lines[2], format!("\"k\"\" \",{numbers},,,1234567,0.5"));
        let host = UsageSums { work: None, models: Vec::new(), ..sums("x.test", "") };
        let lines = csv(&list(UsageBy::Host, vec![host]));
        assert_eq!(lines[0], "host,jobs,unmeasured,requests,sockets,failures,bytes_sent,bytes_received");
        assert_eq!(lines[1], "x.test,2,1,3,0,0,2048,5242880");
    }
}
