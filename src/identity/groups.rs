//! Numbers sorted into groups by counting, in time linear in both.

/// Members by group, in ascending order within a group.
#[derive(Debug)]
pub(super) struct Groups {
    /// Where each group begins, and the end of all.
    pub(super) starts: Vec<usize>,
    pub(super) members: Vec<u32>,
}

impl Groups {
    /// Groups `0..len` by `group_of`, leaving out those without a group.
    pub(super) fn new(groups: usize, len: usize, group_of: impl Fn(usize) -> Option<u32>) -> Self {
        let starts = starts(groups, (0..len).filter_map(&group_of));
        let mut next = starts.clone();
        let mut members = vec![0_u32; starts[groups]];
        for member in 0..len {
            if let Some(group) = group_of(member) {
                let place = &mut next[group as usize];
                members[*place] = member as u32;
                *place += 1;
            }
        }
        Self { starts, members }
    }

    /// The members of a group.
    pub(super) fn of(&self, group: usize) -> &[u32] {
        &self.members[self.starts[group]..self.starts[group + 1]]
    }
}

/// Where each of `groups` begins, and the end of all, when members of these groups are put in order.
pub(super) fn starts(groups: usize, members: impl Iterator<Item = u32>) -> Vec<usize> {
    let mut starts = vec![0_usize; groups + 1];
    members.for_each(|group| starts[group as usize + 1] += 1);
    for group in 0..groups {
        starts[group + 1] += starts[group];
    }
    starts
}
