//! The order of the steps of one phase: what they need first, else as written.

use std::collections::BTreeSet;

use petgraph::algo::tarjan_scc;
use petgraph::graph::{DiGraph, NodeIndex};

/// Steps that wait for each other, each for the next and the last for the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cycle(pub(crate) Vec<usize>);

/// The numbers `0..needs.len()` in an order in which each stands after all of `needs[it]`; of those that could stand
/// next always the smallest. So what is already in order stays as it is, and the answer depends on nothing else.
///
/// # Errors
/// The shortest cycle through the smallest number that is on one.
///
/// # Panics
/// When a need is no number of the range.
pub(crate) fn order(needs: &[Vec<usize>]) -> Result<Vec<usize>, Cycle> {
    let mut graph: DiGraph<(), ()> = DiGraph::with_capacity(needs.len(), needs.iter().map(Vec::len).sum());
    let nodes: Vec<NodeIndex> = needs.iter().map(|_| graph.add_node(())).collect();
    for (step, needed) in needs.iter().enumerate() {
        for need in needed {
            graph.update_edge(nodes[*need], nodes[step], ());
        }
    }
    let mut waits: Vec<usize> =
        nodes.iter().map(|node| graph.edges_directed(*node, petgraph::Incoming).count()).collect();
    let mut ready: BTreeSet<usize> = (0..needs.len()).filter(|step| waits[*step] == 0).collect();
    let mut sorted = Vec::with_capacity(needs.len());
    while let Some(step) = ready.pop_first() {
        sorted.push(step);
        for next in graph.neighbors(nodes[step]) {
            waits[next.index()] -= 1;
            if waits[next.index()] == 0 {
                ready.insert(next.index());
            }
        }
    }
    if sorted.len() == needs.len() { Ok(sorted) } else { Err(shortest_cycle(&graph)) }
}

/// # Panics
/// When there is none.
fn shortest_cycle(graph: &DiGraph<(), ()>) -> Cycle {
    let on_cycle = |component: &Vec<NodeIndex>| component.len() > 1 || graph.contains_edge(component[0], component[0]);
    let start = tarjan_scc(graph).into_iter().filter(on_cycle).flatten().min().expect("what is left has a cycle");
    // Breadth first from `start` against the arrows, that is from each step to what it needs, until `start` is needed.
    let mut came_from: Vec<Option<NodeIndex>> = vec![None; graph.node_count()];
    let mut queue = std::collections::VecDeque::from([start]);
    while let Some(node) = queue.pop_front() {
        let mut needed: Vec<NodeIndex> = graph.neighbors_directed(node, petgraph::Incoming).collect();
        needed.sort();
        for next in needed {
            if next == start {
                let mut path = vec![node];
                while let Some(before) = came_from[path[path.len() - 1].index()] {
                    path.push(before);
                }
                path.reverse();
                return Cycle(path.into_iter().map(NodeIndex::index).collect());
            }
            if came_from[next.index()].is_none() {
                came_from[next.index()] = Some(node);
                queue.push_back(next);
            }
        }
    }
    unreachable!("a strongly connected component leads back to each of its nodes")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition, tried one by one: repeatedly the first that is not placed and whose needs all are.
    fn oracle(needs: &[Vec<usize>]) -> Option<Vec<usize>> {
        let mut placed: Vec<usize> = Vec::new();
        while placed.len() < needs.len() {
            let next =
                (0..needs.len()).find(|s| !placed.contains(s) && needs[*s].iter().all(|need| placed.contains(need)))?;
            placed.push(next);
        }
        Some(placed)
    }

    fn graphs() -> impl Strategy<Value = Vec<Vec<usize>>> {
        (1usize..14).prop_flat_map(|n| prop::collection::vec(prop::collection::vec(0..n, 0..3), n))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn order_is_the_oracles(needs in graphs()) {
            prop_assert_eq!(order(&needs).ok(), oracle(&needs));
        }

        #[test]
        fn a_reported_cycle_is_one(needs in graphs()) {
            if let Err(Cycle(cycle)) = order(&needs) {
                prop_assert!(!cycle.is_empty());
                for (place, step) in cycle.iter().enumerate() {
                    let next = cycle[(place + 1) % cycle.len()];
                    prop_assert!(needs[*step].contains(&next), "{step} does not need {next}");
                }
                let distinct: BTreeSet<_> = cycle.iter().collect();
                prop_assert_eq!(distinct.len(), cycle.len());
            }
        }

        /// Edges only to smaller numbers: nothing to move.
        #[test]
        fn written_order_stays_when_needs_allow_it(
            needs in (1usize..30).prop_flat_map(|n| {
                (0..n).map(|i| prop::collection::vec(0..i.max(1), 0..if i == 0 { 1 } else { 4 })).collect::<Vec<_>>()
            })
        ) {
            let needs: Vec<Vec<usize>> = needs.into_iter().enumerate().map(|(i, n)| n.into_iter().filter(|x| *x < i).collect()).collect();
            prop_assert_eq!(order(&needs), Ok((0..needs.len()).collect::<Vec<_>>()));
        }
    }

    #[test]
    fn the_shortest_cycle_is_shown() {
        assert_eq!(order(&[vec![1], vec![2, 0], vec![0]]), Err(Cycle(vec![0, 1])));
        assert_eq!(order(&[vec![], vec![1]]), Err(Cycle(vec![1])));
    }
}
