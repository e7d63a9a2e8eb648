//! The history of an image: as many entries as layers, and a time for each (rules A082, A083).

use crate::image::Parts;
use crate::oci::{History, Timestamp};

/// The history of the image, complete.
pub(crate) fn complete(parts: &Parts) -> Vec<History> {
    let given = &parts.config.history;
    let (inherited, own) = given.split_at(parts.inherited_history.min(given.len()));
    // The two are counted apart: a base image that lacks an entry must not shift what the
    // Dockerfile's own instructions say to layers that are not theirs.
    let mut history = counted(inherited, parts.base.len());
    let inherited = history.len();
    history.extend(counted(own, parts.own.len()));

    let mut times = parts.own.iter().map(|(_, time)| *time);
    for entry in history.iter_mut().skip(inherited).filter(|entry| !entry.empty_layer) {
        entry.created = times.next();
    }
    give_neighbours_time(&mut history, inherited, parts.created);
    for entry in history.iter_mut().skip(inherited) {
        entry.created = entry.created.map(|time| time.clamped(parts.source_date_epoch));
    }
    history
}

/// The entries, of which exactly `layers` made a layer: missing ones are added, and what is too
/// many made none (rule A082).
fn counted(entries: &[History], layers: usize) -> Vec<History> {
    let mut left = layers;
    let mut history = Vec::with_capacity(entries.len());
    for entry in entries {
        let empty_layer = entry.empty_layer || left == 0;
        left -= usize::from(!empty_layer);
        history.push(History { empty_layer, ..entry.clone() });
    }
    let missing = History {
        comment: Some("made by an instruction that the image does not name".to_owned()),
        ..History::default()
    };
    history.extend(std::iter::repeat_n(missing, left));
    history
}

/// Gives each own entry without a layer the time of the layer before it; those before the first
/// own layer get that one's time, not that of a base layer that may be years old. Without own
/// layers it is the base's last time, so that the same build gives the same image tomorrow.
fn give_neighbours_time(history: &mut [History], inherited: usize, fallback: Timestamp) {
    let (base, own) = history.split_at_mut(inherited);
    let first = own.iter().find_map(|entry| entry.created);
    let last_of_base = base.iter().rev().find_map(|entry| entry.created);
    let mut time = first.or(last_of_base).unwrap_or(fallback);
    for entry in own {
        time = *entry.created.get_or_insert(time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Descriptor, DiffId, Digest, ImageConfig, Layer, MediaType};

    /// One entry as text: `L` or `-` for a layer or none, and its time.
    fn check(base: &[&str], own: &[&str], layers: (usize, &[i64]), expected: &str) {
        check_with(base, own, layers, None, expected);
    }

    #[track_caller]
    fn check_with(
        base: &[&str],
        own: &[&str],
        layers: (usize, &[i64]),
        epoch: Option<i64>,
        expected: &str,
    ) {
        let entry = |text: &&str| History {
            empty_layer: text.starts_with('-'),
            created: text[1..].parse().ok().map(Timestamp::from_seconds),
            ..History::default()
        };
        let digest = Digest::of("");
        let descriptor = Descriptor::new(MediaType::OciConfig, digest, 0);
        let layer = Layer { descriptor, diff_id: DiffId(digest) };
        let history = base.iter().chain(own).map(entry).collect();
        let parts = Parts {
            config: ImageConfig { history, ..ImageConfig::default() },
            inherited_history: base.len(),
            base: vec![layer.clone(); layers.0],
            own: layers.1.iter().map(|t| (layer.clone(), Timestamp::from_seconds(*t))).collect(),
            created: Timestamp::from_seconds(99),
            source_date_epoch: epoch.map(Timestamp::from_seconds),
        };
        let text = |entry: &History| {
            let kind = if entry.empty_layer { '-' } else { 'L' };
            let time = entry.created.map_or(String::new(), |time| time.seconds.to_string());
            format!("{kind}{time}")
        };
        let history: Vec<String> = complete(&parts).iter().map(text).collect();
        assert_eq!(history.join(" "), expected);
    }

    #[test]
    fn a082_missing_entries_are_added_where_the_layers_are() {
        check(&[], &["L"], (2, &[7]), "L L L7");
        check(&["-1"], &["-", "L"], (1, &[7, 8]), "-1 L -7 L7 L8");
    }

    #[test]
    fn a082_entries_for_layers_that_are_not_there_made_none() {
        check(&["L1", "L2", "L3"], &["L"], (1, &[7]), "L1 -2 -3 L7");
    }

    #[test]
    fn a083_an_entry_without_layer_has_its_neighbours_time() {
        check(&["L1"], &["-", "L", "-", "L", "-"], (1, &[7, 8]), "L1 -7 L7 -7 L8 -8");
    }

    #[test]
    fn a083_without_own_layers_the_bases_last_time_counts() {
        check(&["L1", "-2"], &["-", "-"], (1, &[]), "L1 -2 -2 -2");
        check(&[], &["-"], (0, &[]), "-99");
    }

    #[test]
    fn a083_clamping_leaves_the_base_alone() {
        check_with(&["L50"], &["L", "-"], (1, &[70]), Some(10), "L50 L10 -10");
        check_with(&["L50"], &["L", "-"], (1, &[5]), Some(10), "L50 L5 -5");
    }
}
