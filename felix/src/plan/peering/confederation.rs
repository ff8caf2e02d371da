//! The annotation `bgp.ocicat.io/confederation` of a BGPConfiguration: the confederation that the node's AS is a member of.

use std::num::NonZeroU32;

use ocicat_bgp::speaker::Confederation;

/// Reads `65000 members 65001,65002`: the identifier, and the numbers of the members. The node's own may be among them.
///
/// # Errors
/// A sentence that says what cannot be read.
pub(super) fn parse(text: &str) -> Result<Confederation, String> {
    let wrong = || format!("{text:?} is not like \"65000 members 65001,65002\"");
    let number = |text: &str| text.trim().parse::<NonZeroU32>().map_err(|_| wrong());
    let (identifier, members) = text.split_once(" members ").ok_or_else(wrong)?;
    let identifier = number(identifier)?;
    let confederation = Confederation {
        identifier,
        members: members.split(',').map(number).collect::<Result<_, _>>()?,
    };
    if confederation.members.contains(&identifier) {
        return Err(format!("{text:?} has its own identifier among its members"));
    }
    Ok(confederation)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let said = match parse(text) {
            Ok(Confederation { identifier, members }) => format!("{identifier} {members:?}"),
            Err(error) => format!("! {error}"),
        };
        assert_eq!(said, expected, "{text:?}");
    }

    #[test]
    fn a_confederation_is_a_number_and_those_of_its_members() {
        check("65000 members 65001,65002", "65000 {65001, 65002}");
        check(" 65000 members 4200000000, 65001 ", "65000 {65001, 4200000000}");
        check(
            "65000 members 65000",
            "! \"65000 members 65000\" has its own identifier among its members",
        );
        for wrong in
            ["", "65000", "65000 members", "65000 members ", "0 members 1", "65000 members 1;2"]
        {
            check(wrong, &format!("! {wrong:?} is not like \"65000 members 65001,65002\""));
        }
    }
}
