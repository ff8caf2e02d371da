use super::*;

#[test]
fn two_speakers_exchange_their_routes() {
    let sim = network(1, configs(&[65001, 65002], &[(0, 1)]));
    assert_eq!(state(&sim, 0, 1), State::Established);
    assert_eq!(routes(&sim, 0), [(own(1).to_string(), vec!["10.0.0.2".into()])].into());
    assert_eq!(routes(&sim, 1), [(own(0).to_string(), vec!["10.0.0.1".into()])].into());
    assert_eq!(sim.node(0).synced.len(), 2);
    check_adjacent(&sim, 2);
}
