use super::*;

fn entity(user: Option<&str>, client_id: Option<&str>) -> Entity {
    let name = |text: &str| match text {
        "*" => Name::Default,
        text => Name::Named(text.into()),
    };
    Entity { user: user.map(name), client_id: client_id.map(name) }
}

#[test]
fn the_most_precise_limit_applies() {
    // From the least precise to the most: each, once set, takes over.
    let levels = [
        (None, Some("*")),
        (None, Some("c")),
        (Some("*"), None),
        (Some("*"), Some("*")),
        (Some("*"), Some("c")),
        (Some("u"), None),
        (Some("u"), Some("*")),
        (Some("u"), Some("c")),
    ];
    let mut table = Table::default();
    assert_eq!(table.limit(Kind::Produce, "u", "c"), None);
    for (i, (user, client_id)) in levels.into_iter().enumerate() {
        table.set(&entity(user, client_id), PRODUCER_BYTE_RATE, Some(i as f64 + 1.0));
        let (holder, limit) = table.limit(Kind::Produce, "u", "c").unwrap();
        assert_eq!(limit, i as f64 + 1.0);
        assert_eq!(holder.user.as_deref(), user.map(|_| "u"));
        assert_eq!(holder.client_id.as_deref(), client_id.map(|_| "c"));
        assert_eq!(table.limit(Kind::Fetch, "u", "c"), None);
    }
    assert_eq!(table.limits(), 8);
    table.set(&entity(Some("u"), Some("c")), PRODUCER_BYTE_RATE, None);
    assert_eq!(table.limit(Kind::Produce, "u", "c").unwrap().1, 7.0);
    assert!(table.get(&entity(Some("u"), Some("c"))).is_none(), "an entity without limits is gone");
    assert!(table.has(Kind::Produce) && !table.has(Kind::Request));
}

#[test]
fn values_are_kafkas() {
    for (key, value, good) in [
        (PRODUCER_BYTE_RATE, 1.0, true),
        (PRODUCER_BYTE_RATE, 0.0, false),
        (PRODUCER_BYTE_RATE, -5.0, false),
        (PRODUCER_BYTE_RATE, 1.5, false),
        (CONSUMER_BYTE_RATE, f64::NAN, false),
        (CONSUMER_BYTE_RATE, f64::INFINITY, false),
        (REQUEST_PERCENTAGE, 0.5, true),
        ("bytes", 5.0, false),
    ] {
        assert_eq!(check(key, value).is_ok(), good, "{key} {value}: {:?}", check(key, value));
    }
}

#[test]
fn a_burst_is_free_and_what_is_over_it_waits() {
    let at = Duration::from_millis;
    let mut window = Window::default();
    window.add(at(100_000), 1000.0);
    assert_eq!(window.wait(at(100_000), 100.0), Duration::ZERO, "ten seconds' worth");
    window.add(at(100_000), 500.0);
    assert_eq!(window.wait(at(100_000), 100.0), at(5000), "five seconds' worth too much");
    assert_eq!(window.wait(at(105_000), 100.0), at(5000), "it stays in the window");
    assert_eq!(window.wait(at(111_000), 100.0), Duration::ZERO, "then it leaves it");
    window.add(at(111_500), 2000.0);
    window.add(at(111_500), -2000.0);
    assert_eq!(window.wait(at(111_500), 1.0), Duration::ZERO, "taken back");
}

/// Whoever waits as told stays at the limit.
#[test]
fn waiting_as_told_keeps_the_limit() {
    let (limit, mut now, mut sent) = (1000.0, Duration::from_millis(50_321), 0.0);
    let (mut window, began) = (Window::default(), now);
    while now - began < Duration::from_secs(100) {
        window.add(now, 700.0);
        sent += 700.0;
        now += window.wait(now, limit) + Duration::from_millis(1);
    }
    let rate = (sent - Window::burst(limit)) / 100.0;
    assert!((800.0..1200.0).contains(&rate), "{rate} a second");
}

#[test]
fn an_old_window_is_over() {
    let mut window = Window::default();
    window.add(Duration::from_secs(100), 5.0);
    assert!(!window.is_over(Duration::from_secs(110)));
    assert!(window.is_over(Duration::from_secs(111)));
    window.add(Duration::from_secs(5000), 1.0);
    assert_eq!(window.used(), 1.0);
}
