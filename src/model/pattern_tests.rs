use super::*;

fn matches(pattern: &str, name: &str) -> bool {
    Pattern::parse(pattern).unwrap_or_else(|| panic!("{pattern} is a pattern")).matches(name)
}

#[test]
fn patterns_match_whole_names() {
    for (pattern, name, expected) in [
        ("orders", "orders", true),
        ("orders", "my-orders", false),
        ("a|bc", "bc", true),
        ("a|bc", "abc", false),
        (".*-tx", "x-tx", true),
        (".", "\n", false),
        ("(?s).", "\n", true),
        ("(?i)A(?-i:b)", "ab", true),
        ("(?i)A(?-i:b)", "aB", false),
        ("\\d+\\w", "12x", true),
        ("\\d", "\u{0664}", false),
        ("[^\\d]", "\u{0664}", true),
        ("\\Qa.b*\\E+", "a.b***", true),
        ("\\Qa.b*", "a.b*", true),
        ("a{2", "a{2", true),
        ("a{,2}", "a{,2}", true),
        ("a{01}", "a{01}", true),
        ("a{2,}?", "aaa", true),
        ("a{2}", "aaa", false),
        ("[]a]+", "a]", true),
        ("[^]a]", "b", true),
        ("[a&&b]+", "a&b", true),
        ("[a[b]+", "[ab", true),
        ("[[:alpha:]_-]+", "a_-", true),
        ("[[:^alpha:]]", "1", true),
        ("[a-]", "-", true),
        ("[+--]", ",", true),
        ("\\x{41}\\x42\\103\\0", "ABC\0", true),
        ("\\p{Greek}\\pL\\P{Greek}\\p{^Greek}", "\u{3b1}x12", true),
        ("(?P<one>a)(?<two>b)", "ab", true),
        ("a b#c", "a b#c", true),
        ("\u{e9}.", "\u{e9}\u{4e2d}", true),
        ("\\bx\\b", "x", true),
        ("^x$", "x", true),
        ("\\.\\-\\_", ".-_", true),
        ("()", "", true),
    ] {
        assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
    }
}

#[test]
fn what_re2_refuses_is_refused() {
    for pattern in [
        "(",
        ")",
        "[z",
        "[",
        "(?=x)",
        "(?!x)",
        "*",
        "a|*",
        "(*)",
        "a**",
        "a++",
        "a*+",
        "x{2}{3}",
        "\\1",
        "\\8",
        "\\C",
        "\\Z",
        "\\h",
        "\\u0041",
        "\\y",
        "(?x)a b",
        "(?<n>a)(?<n>b)",
        "(?<>a)",
        "(?i",
        "(?-)",
        "(?-i-s:a)",
        "a{1001}",
        "a{2,1}",
        "a{1,1001}",
        "[b-a]",
        "[[:nope:]]",
        "\\p{Nope}",
        "\\p",
        "\\x{110000}",
        "\\xg0",
        "\\",
    ] {
        assert!(Pattern::parse(pattern).is_none(), "{pattern}");
    }
}

#[test]
fn what_would_take_too_much_is_refused() {
    assert!(Pattern::parse("a{1000}").is_some());
    assert!(Pattern::parse(&format!("{}a{}", "(".repeat(300), ")".repeat(300))).is_some());
    assert!(Pattern::parse("(((a{100}){100}){100})").is_none());
    assert!(Pattern::parse("\\pL{1000}").is_none());
    assert!(Pattern::parse(&format!("{}a{}", "(".repeat(30_000), ")".repeat(30_000))).is_none());
}
