//! Rows and state as two lists by key.

use super::*;

#[tokio::test]
async fn of_rows_with_one_key_those_count_that_may_be_sent_and_the_others_withdraw() {
    let one = |id: i64, fates: &[Fate]| {
        let rows = Table::from([(id, (None, id))]);
        let rows = vec![batches(&rows).into_iter().find(|batch| batch.num_rows() > 0).unwrap(); fates.len()];
        rows.into_iter().zip(fates).map(|(rows, fate)| Ok(Incoming { rows, fates: vec![*fate] })).collect::<Vec<_>>()
    };
    let rows = [
        one(1, &[Fate::Held, Fate::Sent, Fate::Withdrawn]),
        one(2, &[Fate::Held]),
        one(3, &[Fate::Held, Fate::Withdrawn]),
        one(5, &[Fate::Withdrawn]),
    ];
    let to = Memory::default();
    let mut house = House::new();
    house.run(&to, SyncMode::Upsert, &(1..=4).map(|id| (id, (None, 0))).collect()).await;
    let request = SyncRequest {
        sync: "list",
        destination: "lake",
        mode: SyncMode::Upsert,
        full: false,
        reset: false,
        max_delete_percent: 0.0,
        retry_rejected: false,
        fail_above_percent: None,
        rows_per_batch: None,
        pacing: Pacing::default(),
        secret: [7; 32],
        epoch: 2,
        now: DateTime::UNIX_EPOCH,
        schema: schema(),
        withdrawn: &NOBODY,
        merged: &NONE,
        hold: false,
    };
    let rows = futures::stream::iter(rows.into_iter().flatten()).boxed();
    let counts = run_sync(&house.log, &to, &request, rows, Previous::Held(house.previous)).await.unwrap().counts;
    assert_eq!((counts.read, counts.updated, counts.deleted, counts.withheld), (1, 1, 1, 6));
    assert_eq!(to.replay().await.table, Table::from([(1, (None, 1)), (2, (None, 0)), (4, (None, 0))]));
}

#[tokio::test]
async fn a_state_that_is_in_no_order_is_read_all_the_same() {
    let to = Memory::default();
    let mut house = House::new();
    let rows: Table = (0..9).map(|id| (id, (None, id))).collect();
    house.run(&to, SyncMode::Mirror, &rows).await;
    let state = house.previous.remove(0);
    house.previous = vec![state.slice(5, 4), state.slice(0, 5)];
    let outcome = house.run(&to, SyncMode::Mirror, &table(&[(0, "", 0), (7, "", 8)])).await;
    assert_eq!((outcome.counts.unchanged, outcome.counts.updated, outcome.counts.deleted), (1, 1, 7));
}
