//! Which servers an agent may reach: the hosts that its operator lists, at addresses that are not the operator's own network. Pure.
//!
//! ```text
//! address    the class of an address, whatever form it has
//! name       the host of a server: a name or an address
//! target     the server of a URL, and the URL as it is requested
//! host_rule  one line of the list
//! ```
//!
//! Both parts hold together. A URL is checked by its host before its name is resolved; then each of its addresses is checked, and only
//! a checked address is connected to. Each redirect is checked as a URL of its own.
//!
//! Addresses that are not public are refused, unless
//!
//! - a rule names the address itself, such as `10.0.0.7` or `[fd00::7]:8080`;
//! - it is a loopback address, and the name is `localhost` or below it;
//! - it is a private one, and the name is one that no public name server answers for: a single label such as `ollama`, or a name below
//!   `internal`, `local` or `home.arpa`.
//!
//! One refused address of a name refuses the name: a mixed answer is how rebinding looks.

pub mod address;
pub mod name;

pub mod target;

pub mod host_rule;

use std::net::IpAddr;

use address::Class;
use host_rule::HostRule;
use name::Name;
use target::{Kind, Target};
use wasm_worker_core::network::event::Failure;

use crate::failure::{invalid, not_allowed};

/// The list of one agent.
#[derive(Clone, Debug)]
pub struct Rules {
    agent: String,
    allowed: Vec<HostRule>,
}

impl Rules {
    /// The list of the agent of this name, which messages use.
    pub const fn new(agent: String, allowed: Vec<HostRule>) -> Self {
        Self { agent, allowed }
    }

    /// The server of a URL, if the agent may reach it.
    ///
    /// # Errors
    /// `invalid`, or `not-allowed` with the line to add.
    pub fn check_url(&self, url: &str, kind: Kind) -> Result<Target, Failure> {
        let target = Target::parse(url, kind).map_err(|error| invalid(error.to_string()))?;
        if self.allowed.iter().any(|rule| rule.allows(&target)) {
            return Ok(target);
        }
        let (rule, shown) = (HostRule::text_for(&target), target.shown());
        let near = self.allowed.iter().find(|rule| rule.has_host(&target.name));
        let near = near.map(|rule| format!(" (the list has `{rule}`)")).unwrap_or_default();
        let class = target.address().map(address::class_of).filter(|class| *class != Class::Public);
        let class_in_words = class.map(|class| format!(": it is {}", class.in_words())).unwrap_or_default();
        let refusal = format!("`{shown}` is not allowed{near}{class_in_words}");
        Err(not_allowed(match class {
            Some(class) if !class.is_for_one_host() => format!("{refusal}, which no rule allows"),
            _ => format!("{refusal}; {}", self.advice(&rule)),
        }))
    }

    /// Whether the server may be reached at these addresses.
    ///
    /// # Errors
    /// `not-allowed`, with the class of the first address that is refused.
    pub fn check_addresses(&self, target: &Target, addresses: &[IpAddr]) -> Result<(), Failure> {
        let refused = addresses.iter().find(|address| !self.grants(target, **address));
        let Some(&refused) = refused else { return Ok(()) };
        let (name, class) = (&target.authority, address::class_of(refused));
        let canonical = refused.to_canonical();
        let leads = match &target.name {
            Name::Domain(domain) => format!("`{domain}` leads to {canonical}"),
            Name::Address(_) => format!("`{name}` is refused: {canonical}"),
        };
        let leads = format!("{leads}, {}", class.in_words());
        if class.is_for_one_host() {
            let rule = HostRule::text_for_address(target, canonical);
            return Err(not_allowed(format!("{leads}; {}", self.advice(&rule))));
        }
        Err(not_allowed(format!("{leads}, which no rule allows")))
    }

    fn grants(&self, target: &Target, address: IpAddr) -> bool {
        let class = address::class_of(address);
        class == Class::Public
            || (class.is_for_one_host() && self.allowed.iter().any(|rule| rule.grants(target, address.to_canonical())))
            || match &target.name {
                Name::Domain(name) if class == Class::Loopback => name::is_localhost(name),
                Name::Domain(name) if class.is_private() => name::is_local(name) && !name::is_localhost(name),
                Name::Domain(_) | Name::Address(_) => false,
            }
    }

    fn advice(&self, rule: &str) -> String {
        format!(
            "the operator allows it with `--allow-host {rule}`, or with `allow-host = [\"{rule}\"]` in `[agents.{}]`",
            self.agent
        )
    }
}

#[cfg(test)]
mod tests;
