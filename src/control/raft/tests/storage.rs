//! What a node does whose disk is full, or fails.

use super::cluster::{Cluster, run};
use crate::rt::fault::{Fault, Op, inject};

/// A full disk: the others go on, and once there is room so does this one.
#[test]
fn a_member_whose_disk_is_full_waits_for_room() {
    run(async {
        let mut cluster = Cluster::voting(3).await;
        let leader = cluster.leader().await;
        let full = (leader + 1) % 3;
        let fault = {
            let dir = cluster.nodes[full].dir.path();
            inject(dir, "metadata-", Op::Write, Fault::Error(libc::ENOSPC), usize::MAX)
        };
        cluster.commit(20).await;
        cluster.until("the full disk to be met", |_| fault.met() > 2).await;
        let others: Vec<usize> = (0..3).filter(|index| *index != full).collect();
        cluster.level(&others).await;
        drop(fault);
        cluster.level(&[0, 1, 2]).await;
        assert!(cluster.nodes.iter().all(|node| node.heard.borrow().ended.is_none()));
        cluster.commit(5).await;
        cluster.check();
    });
}

/// A disk that fails: what it holds is not known any more, so that the node says that it is none of the quorum.
#[test]
fn a_member_whose_disk_fails_says_that_it_is_none_any_more() {
    for op in [Op::Sync, Op::Write] {
        run(async {
            let mut cluster = Cluster::voting(3).await;
            let leader = cluster.leader().await;
            let failed = (leader + 1) % 3;
            let fault = inject(
                cluster.nodes[failed].dir.path(),
                "metadata-",
                op,
                Fault::Error(libc::EIO),
                usize::MAX,
            );
            cluster.commit(5).await;
            cluster.until("it says so", |cluster| cluster.nodes[failed].heard.borrow().ended.is_some()).await;
            drop(fault);
            let ended = cluster.nodes[failed].heard.borrow().ended.clone().unwrap();
            assert!(ended.contains("os error 5"), "{ended}");
            cluster.commit(5).await;
            // Another start reads what is there, and is given the rest.
            cluster.stop(failed).await;
            cluster.nodes[failed].heard.borrow_mut().ended = None;
            cluster.start(failed).await;
            cluster.level(&[0, 1, 2]).await;
            cluster.check();
        });
    }
}
