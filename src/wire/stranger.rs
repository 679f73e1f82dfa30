//! Which protocol bytes belong to that are not what a port speaks: for who has the wrong port, or the wrong settings.

/// What a misdirected client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    Tls,
    Http,
    /// SASL, by Kafka's requests or, as before KIP-43, by bare tokens.
    Sasl,
    Ssh,
    /// The header that a load balancer puts in front of a connection.
    ProxyProtocol,
    Kafka,
    /// As brokers do with each other, or as who would pass for one.
    Broker,
    Other,
}

impl Speaks {
    pub const ALL: [Self; 8] = [
        Self::Tls,
        Self::Http,
        Self::Sasl,
        Self::Ssh,
        Self::ProxyProtocol,
        Self::Kafka,
        Self::Broker,
        Self::Other,
    ];

    /// The label of a metric.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tls => "tls",
            Self::Http => "http",
            Self::Sasl => "sasl",
            Self::Ssh => "ssh",
            Self::ProxyProtocol => "proxy_protocol",
            Self::Kafka => "kafka",
            Self::Broker => "broker",
            Self::Other => "other",
        }
    }

    /// By the first bytes of a connection, frame length included. Never [`Self::Sasl`]: that comes in frames.
    pub fn by(first: &[u8]) -> Self {
        const METHODS: [&[u8]; 10] = [
            b"GET ",
            b"HEAD ",
            b"POST ",
            b"PUT ",
            b"DELETE ",
            b"OPTIONS ",
            b"PATCH ",
            b"CONNECT ",
            b"TRACE ",
            b"PRI ",
        ];
        // Of a word that is cut short, as much as there is.
        let begins =
            |word: &[u8]| first.len() >= 3 && first.starts_with(&word[..word.len().min(first.len())]);
        match first {
            // A handshake record of SSL 3.0 to TLS 1.3; an alert that answers what was taken for one.
            [0x16 | 0x15, 3, 0..=4, ..] => Self::Tls,
            _ if METHODS.iter().any(|method| begins(method)) => Self::Http,
            _ if begins(b"SSH-") => Self::Ssh,
            _ if begins(b"PROXY ") || begins(b"\r\n\r\n\0\r\nQUIT\n") => Self::ProxyProtocol,
            // A length below 16 MiB, a key and a version such as there are.
            [0, _, _, _, 0, 0..=127, 0, 0..=31, ..] => Self::Kafka,
            _ => Self::Other,
        }
    }

    /// By a whole frame that is no request, without its length.
    pub fn by_frame(body: &[u8]) -> Self {
        // GSS-API: a token of an application's own class. PLAIN: `[authzid] NUL user NUL password`, as text.
        let plain = || body.iter().filter(|b| **b == 0).count() == 2 && !body.ends_with(&[0]);
        match std::str::from_utf8(body) {
            _ if body.first() == Some(&0x60) => Self::Sasl,
            Ok(text) if plain() && !text.chars().any(|c| c.is_control() && c != '\0') => Self::Sasl,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_told_by_their_first_bytes() {
        let hello = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
        let metadata = [0, 0, 0, 20, 0, 3, 0, 12, 0, 0, 0, 1];
        for (first, speaks) in [
            (&hello[..], Speaks::Tls),
            (b"GET / HTTP/1.1\r\n", Speaks::Http),
            (b"GET", Speaks::Http),
            (b"OPTIONS * HTTP/1.1", Speaks::Http),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Speaks::Http),
            (b"SSH-2.0-OpenSSH_9.6\r\n", Speaks::Ssh),
            (b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n", Speaks::ProxyProtocol),
            (b"\r\n\r\n\0\r\nQUIT\n\x21\x11", Speaks::ProxyProtocol),
            (&metadata, Speaks::Kafka),
            (&[0xff; 16], Speaks::Other),
            (b"GETTING", Speaks::Other),
            (b"", Speaks::Other),
            (b"G", Speaks::Other),
        ] {
            assert_eq!(Speaks::by(first), speaks, "{first:?}");
        }
    }

    #[test]
    fn bare_tokens_are_sasl() {
        for (body, speaks) in [
            (&b"\0alice\0secret"[..], Speaks::Sasl),
            (b"admin\0alice\0secret", Speaks::Sasl),
            (&[0x60, 0x82, 1, 2], Speaks::Sasl),
            (&[0, 3, 0, 99, 0, 0, 0, 1], Speaks::Other),
            (&[3, 0xe7, 0, 0, 0, 0, 0, 7, 0, 0], Speaks::Other),
            (b"", Speaks::Other),
        ] {
            assert_eq!(Speaks::by_frame(body), speaks, "{body:?}");
        }
    }
}
