//! Who goes together.

use runbook_model::id::HostName;
use runbook_model::units::Share;

/// `hosts`, cut in their order into batches of the sizes `shares`, the last of which repeats. A percentage is of all
/// hosts, rounded down; every batch has at least one host.
pub fn batches(hosts: &[HostName], shares: &[Share]) -> Vec<Vec<HostName>> {
    let mut sizes = shares.iter().map(|share| share.of(hosts.len()).max(1));
    let mut size = hosts.len().max(1);
    let mut rest = hosts;
    let mut out = Vec::new();
    while !rest.is_empty() {
        size = sizes.next().unwrap_or(size);
        let (batch, after) = rest.split_at(size.min(rest.len()));
        out.push(batch.to_vec());
        rest = after;
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(count: usize) -> Vec<HostName> {
        (0..count).map(|n| HostName::from(format!("h{n}"))).collect()
    }

    fn sizes(count: usize, shares: &[Share]) -> Vec<usize> {
        batches(&names(count), shares).iter().map(Vec::len).collect()
    }

    #[test]
    fn one_alone_and_then_half_at_a_time() {
        let shares = [Share::Count(1), Share::Percent(50)];
        assert_eq!(sizes(10, &shares), [1, 5, 4]);
        assert_eq!(sizes(3, &shares), [1, 1, 1]);
        assert_eq!(sizes(1, &shares), [1]);
    }

    #[test]
    fn without_shares_all_go_together() {
        assert_eq!(sizes(7, &[]), [7]);
        assert_eq!(sizes(7, &[Share::Percent(100)]), [7]);
    }

    proptest! {
        #[test]
        fn batches_are_the_hosts_in_order(
            count in 0usize..300,
            shares in prop::collection::vec(
                prop_oneof![(0u32..400).prop_map(Share::Count), (0u32..=100).prop_map(Share::Percent)], 0..5)
        ) {
            let hosts = names(count);
            let cut = batches(&hosts, &shares);
            prop_assert!(cut.iter().all(|batch| !batch.is_empty()));
            prop_assert_eq!(cut.concat(), hosts);
        }
    }
}
