//! The class of an address, by the registries of IANA for special addresses of IPv4 and IPv6 (RFC 6890 and its updates).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What an address is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A server on the Internet.
    Public,
    /// This machine.
    Loopback,
    /// A private network: RFC 1918.
    Private,
    /// A private network of IPv6: `fc00::/7`, and the old `fec0::/10`.
    UniqueLocal,
    /// The network of a provider behind its translation: `100.64.0.0/10`.
    Shared,
    /// The network of one cable.
    LinkLocal,
    /// The service that gives virtual machines their keys.
    Metadata,
    /// Examples in documents.
    Documentation,
    /// Groups.
    Multicast,
    /// No address, which systems take for this machine.
    Unspecified,
    /// Everything else that is no server on the Internet.
    Reserved,
}

impl Class {
    /// The class for people, with its article.
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Public => "a public address",
            Self::Loopback => "an address of this machine",
            Self::Private => "a private address",
            Self::UniqueLocal => "a private address (unique local)",
            Self::Shared => "an address of a provider's own network (100.64.0.0/10)",
            Self::LinkLocal => "a link-local address",
            Self::Metadata => "the address of a cloud's metadata service",
            Self::Documentation => "an address for documentation",
            Self::Multicast => "a multicast address",
            Self::Unspecified => "the unspecified address",
            Self::Reserved => "a reserved address",
        }
    }

    /// Whether a rule can name such an address, because one host has it.
    pub const fn is_for_one_host(self) -> bool {
        !matches!(self, Self::Multicast | Self::Unspecified | Self::Reserved)
    }

    /// Whether it is one of the networks behind a router.
    pub const fn is_private(self) -> bool {
        matches!(self, Self::Private | Self::UniqueLocal | Self::Shared)
    }
}

/// The class of an address. Forms of IPv6 that hold an address of IPv4 have the class of that one.
pub fn class_of(address: IpAddr) -> Class {
    match address {
        IpAddr::V4(address) => class_of_v4(address),
        IpAddr::V6(address) => class_of_v6(address),
    }
}

fn class_of_v4(address: Ipv4Addr) -> Class {
    match address.octets() {
        // Amazon and most others; the containers of Amazon; Alibaba.
        [169, 254, 169, 254] | [169, 254, 170, 2] | [100, 100, 100, 200] => Class::Metadata,
        [0, ..] => Class::Unspecified,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Class::Private,
        [100, 64..=127, ..] => Class::Shared,
        [127, ..] => Class::Loopback,
        [169, 254, ..] => Class::LinkLocal,
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Class::Documentation,
        [224..=239, ..] => Class::Multicast,
        // Protocols of the IETF, the old relays of 6to4, tests of networks, and the rest.
        [192, 0, 0, _] | [192, 88, 99, _] | [198, 18..=19, ..] | [240..=255, ..] => Class::Reserved,
        _ => Class::Public,
    }
}

fn class_of_v6(address: Ipv6Addr) -> Class {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Class::Unspecified,
        [0, 0, 0, 0, 0, 0, 0, 1] => Class::Loopback,
        // Mapped, translated (SIIT), and by the well-known prefix of NAT64.
        [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => class_of_v4(v4(high, low)),
        // Compatible: nobody has such an address any more.
        [0, 0, 0, 0, 0, 0, high, low] => worst(class_of_v4(v4(high, low)), Class::Reserved),
        // 6to4.
        [0x2002, high, low, ..] => class_of_v4(v4(high, low)),
        // Teredo: the server, and the client with every bit turned.
        [0x2001, 0, server_high, server_low, _, _, high, low] => {
            worst(class_of_v4(v4(!high, !low)), class_of_v4(v4(server_high, server_low)))
        }
        // Amazon's metadata service on IPv6.
        [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254] => Class::Metadata,
        [0xfe80..=0xfebf, ..] => Class::LinkLocal,
        [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] => Class::UniqueLocal,
        [0xff00..=0xffff, ..] => Class::Multicast,
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0x0fff, ..] => Class::Documentation,
        [0x2001, 0..=0x01ff, ..] => Class::Reserved,
        // ISATAP: the address of IPv4 is the host's own.
        [0x2000..=0x3fff, _, _, _, 0 | 0x200, 0x5efe, high, low] => class_of_v4(v4(high, low)),
        [0x2000..=0x3fff, ..] => Class::Public,
        _ => Class::Reserved,
    }
}

/// The first class, unless it is public.
const fn worst(one: Class, other: Class) -> Class {
    if matches!(one, Class::Public) { other } else { one }
}

fn v4(high: u16, low: u16) -> Ipv4Addr {
    let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
    Ipv4Addr::new(a, b, c, d)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_an_address_has_its_class() {
        for (address, class) in [
            ("8.8.8.8", Class::Public),
            ("172.15.255.255", Class::Public),
            ("172.16.0.1", Class::Private),
            ("172.32.0.1", Class::Public),
            ("192.168.1.1", Class::Private),
            ("100.63.0.1", Class::Public),
            ("100.64.0.1", Class::Shared),
            ("100.100.100.200", Class::Metadata),
            ("169.254.169.254", Class::Metadata),
            ("169.254.1.1", Class::LinkLocal),
            ("0.0.0.0", Class::Unspecified),
            ("0.1.2.3", Class::Unspecified),
            ("198.51.100.7", Class::Documentation),
            ("198.18.0.1", Class::Reserved),
            ("239.1.1.1", Class::Multicast),
            ("255.255.255.255", Class::Reserved),
            ("::", Class::Unspecified),
            ("::1", Class::Loopback),
            ("::ffff:127.0.0.1", Class::Loopback),
            ("::ffff:8.8.8.8", Class::Public),
            ("::ffff:0:10.0.0.1", Class::Private),
            ("::10.0.0.1", Class::Private),
            ("::8.8.8.8", Class::Reserved),
            ("64:ff9b::a9fe:a9fe", Class::Metadata),
            ("64:ff9b::8.8.8.8", Class::Public),
            ("64:ff9b:1::8.8.8.8", Class::Reserved),
            ("2002:7f00:1::1", Class::Loopback),
            ("2002:808:808::1", Class::Public),
            ("2001:0:808:808::80ff:fffe", Class::Loopback),
            ("2001:0:a00:1::f7f7:f7f7", Class::Private),
            ("fe80::1", Class::LinkLocal),
            ("fec0::1", Class::UniqueLocal),
            ("fd00::1", Class::UniqueLocal),
            ("fd00:ec2::254", Class::Metadata),
            ("ff02::1", Class::Multicast),
            ("2001:db8::1", Class::Documentation),
            ("3fff::1", Class::Documentation),
            ("2001:20::1", Class::Reserved),
            ("2606:4700::5efe:a00:1", Class::Private),
            ("2606:4700::1111", Class::Public),
            ("4000::5efe:808:808", Class::Reserved),
            ("100::1", Class::Reserved),
            ("5f00::1", Class::Reserved),
        ] {
            assert_eq!(class_of(address.parse().unwrap()), class, "{address}");
        }
    }
}
