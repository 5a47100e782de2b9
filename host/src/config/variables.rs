//! Environment variables that look like settings and are none: mistyped names, which would otherwise have no effect in silence.

use strsim::damerau_levenshtein;

use super::settings::SETTINGS;

/// The variable of the configuration file.
pub(crate) const CONFIG_VARIABLE: &str = "WASM_WORKER_CONFIG";
const OWN_PREFIX: &str = "WASM_WORKER_";
const LIVEKIT_PREFIX: &str = "LIVEKIT_";
/// Most edits between a mistyped name and the name that was meant.
const EDITS_MAX: usize = 2;

/// Variables of LiveKit's server, command line, SDKs and services.
const OF_LIVEKIT: &[&str] = &[
    "LIVEKIT_CONFIG",
    "LIVEKIT_CONFIG_BODY",
    "LIVEKIT_CONFIG_FILE",
    "LIVEKIT_DEV_MODE",
    "LIVEKIT_EVALS_VERBOSE",
    "LIVEKIT_IDENTITY",
    "LIVEKIT_LOG_LEVEL",
    "LIVEKIT_PROJECT",
    "LIVEKIT_REGION",
    "LIVEKIT_REMOTE_EOT_URL",
    "LIVEKIT_ROOM",
    "LIVEKIT_ROOM_NAME",
    "LIVEKIT_SANDBOX_ID",
    "LIVEKIT_SERVER",
    "LIVEKIT_TOKEN",
    "LIVEKIT_WS_URL",
];
/// The beginnings of the names of LiveKit's services, each of which has many variables.
const SERVICES: &[&str] = &[
    "LIVEKIT_CLOUD_",
    "LIVEKIT_EGRESS_",
    "LIVEKIT_INFERENCE_",
    "LIVEKIT_INGRESS_",
    "LIVEKIT_OBSERVABILITY_",
    "LIVEKIT_REDIS_",
    "LIVEKIT_RTC_",
    "LIVEKIT_SIP_",
    "LIVEKIT_TURN_",
    "LIVEKIT_WEBHOOK_",
];

/// A variable that no setting has.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UnknownVariable {
    pub(crate) name: String,
    /// The variable of a setting whose name is nearly the same.
    pub(crate) meant: Option<String>,
}

/// The variables among these that begin as those of settings do, belong to no setting, and are not known to belong to another
/// program of LiveKit.
pub(crate) fn unknown_variables(names: impl Iterator<Item = String>) -> Vec<UnknownVariable> {
    let known: Vec<String> = SETTINGS.iter().map(|setting| setting.env()).chain([CONFIG_VARIABLE.to_owned()]).collect();
    let ours = |name: &String| {
        let of_livekit =
            || OF_LIVEKIT.contains(&name.as_str()) || SERVICES.iter().any(|service| name.starts_with(service));
        name.starts_with(OWN_PREFIX) || (name.starts_with(LIVEKIT_PREFIX) && !of_livekit())
    };
    let mut unknown: Vec<UnknownVariable> = names
        .filter(|name| ours(name) && !known.contains(name))
        .map(|name| UnknownVariable { meant: nearest(&name, &known), name })
        .collect();
    unknown.sort_by(|one, other| one.name.cmp(&other.name));
    unknown
}

/// The known name that is nearest: with the fewest edits, or with the same words in another order or number.
fn nearest(name: &str, known: &[String]) -> Option<String> {
    let edits = known.iter().map(|other| (damerau_levenshtein(name, other), other)).min();
    if let Some((edits, other)) = edits
        && edits <= EDITS_MAX
    {
        return Some(other.clone());
    }
    let words = |name: &str| name.split('_').skip(1).map(str::to_owned).collect::<Vec<_>>();
    let own = words(name);
    let shares = |other: &String| {
        let others = words(other);
        others.iter().all(|word| own.contains(word)) || own.iter().all(|word| others.contains(word))
    };
    let same_program = |other: &&String| other.split('_').next() == name.split('_').next();
    known.iter().filter(same_program).filter(|other| shares(other)).min_by_key(|other| other.len()).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(name: &str) -> Option<Option<String>> {
        unknown_variables([name.to_owned()].into_iter()).pop().map(|unknown| unknown.meant)
    }

    #[test]
    fn mistyped_variable_is_told_with_the_name_that_was_meant() {
        for (name, meant) in [
            ("LIVEKIT_ULR", "LIVEKIT_URL"),
            ("LIVEKIT_API_URL", "LIVEKIT_URL"),
            ("LIVEKIT_APIKEY", "LIVEKIT_API_KEY"),
            ("LIVEKIT_SECRET", "LIVEKIT_API_SECRET"),
            ("WASM_WORKER_MAXJOBS", "WASM_WORKER_MAX_JOBS"),
        ] {
            assert_eq!(told(name), Some(Some(meant.to_owned())), "{name}");
        }
        assert_eq!(told("LIVEKIT_SOMETHING_ELSE"), Some(None));
    }

    #[test]
    fn variables_of_settings_and_of_livekit_s_own_tools_are_not_told() {
        let settings = SETTINGS.iter().map(|setting| setting.env());
        let others = ["LIVEKIT_CONFIG", "LIVEKIT_INFERENCE_URL", "WASM_WORKER_CONFIG", "PATH", "NUM_CPUS"];
        let known = settings.chain(others.into_iter().map(str::to_owned));
        assert_eq!(unknown_variables(known), []);
    }
}
