use super::*;
use proptest::prelude::*;

fn labels(text: &str) -> BTreeMap<String, String> {
    text.split_whitespace()
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

fn check(expression: &str, yes: &[&str], no: &[&str]) {
    let parsed: Expression = expression.parse().unwrap();
    for text in yes {
        assert!(parsed.matches(&labels(text)), "{expression} should select {text}");
    }
    for text in no {
        assert!(!parsed.matches(&labels(text)), "{expression} should not select {text}");
    }
}

#[test]
fn every_operator_means_what_calico_says() {
    check("", &["", "a=b"], &[]);
    check("all()", &["", "a=b"], &[]);
    check("has(rack)", &["rack=1"], &["", "row=1"]);
    check("!has(rack)", &["", "row=1"], &["rack=1"]);
    check("rack == 'a'", &["rack=a"], &["", "rack=b"]);
    check("rack != \"a\"", &["", "rack=b"], &["rack=a"]);
    check("rack in {'a', 'b'}", &["rack=a", "rack=b"], &["", "rack=c"]);
    check("rack not in {'a'}", &["", "rack=b"], &["rack=a"]);
    check("rack in {}", &[], &["", "rack="]);
    check("rack contains 'm'", &["rack=amb"], &["", "rack=ab"]);
    check("rack starts with 'a'", &["rack=ab"], &["", "rack=ba"]);
    check("rack ends with 'a'", &["rack=ba"], &["", "rack=ab"]);
    check("route-reflector/x.y == ''", &["route-reflector/x.y="], &["", "route-reflector/x.y=1"]);
}

#[test]
fn and_binds_tighter_than_or_and_not_tightest() {
    check("a == '1' || b == '1' && c == '1'", &["a=1", "b=1 c=1"], &["b=1", "c=1"]);
    check("(a == '1' || b == '1') && c == '1'", &["a=1 c=1", "b=1 c=1"], &["a=1", "b=1"]);
    check("!has(a) && has(b)", &["b=1"], &["", "a=1 b=1"]);
    check("!(has(a) && has(b))", &["", "b=1"], &["a=1 b=1"]);
}

#[test]
fn what_is_wrong_is_said_with_the_text() {
    let error = |text: &str| text.parse::<Expression>().unwrap_err().to_string();
    assert_eq!(error("a = 'b'"), "selector \"a = 'b'\": unexpected '='");
    assert_eq!(error("a == b"), "selector \"a == b\": expected a quoted value, found \"b\"");
    assert_eq!(error("a == 'b"), "selector \"a == 'b\": no closing ' after \"b\"");
    assert_eq!(error("any()"), "selector \"any()\": there is no function any()");
    assert_eq!(
        error("has(a) has(b)"),
        "selector \"has(a) has(b)\": unexpected \"has\" after the end"
    );
    assert!(error(&"(".repeat(100_000)).ends_with("nested deeper than 64"));
}

fn expressions() -> impl Strategy<Value = Expression> {
    let key = "[a-c]";
    let leaf = prop_oneof![
        Just(Expression::All),
        key.prop_map(Expression::Has),
        (key, prop::collection::btree_set("[x-z]{0,2}", 0..3))
            .prop_map(|(key, values)| Expression::Value(key, Test::In(values))),
        (key, "[x-z]{0,2}").prop_map(|(key, part)| Expression::Value(key, Test::Contains(part))),
        (key, "[x-z]{0,2}").prop_map(|(key, part)| Expression::Value(key, Test::StartsWith(part))),
        (key, "[x-z]{0,2}").prop_map(|(key, part)| Expression::Value(key, Test::EndsWith(part))),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(not),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Expression::And),
            prop::collection::vec(inner, 2..4).prop_map(Expression::Or),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_printed_is_read_back(expression in expressions()) {
        prop_assert_eq!(expression.to_string().parse::<Expression>(), Ok(expression));
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "[a-b()!&|={}'\", ]{0,40}") {
        let _ = text.parse::<Expression>();
    }
}
