//! Near names: what somebody meant who mistyped a name.

/// The option that differs from `name` in the fewest letters, if those are at most two.
pub(crate) fn nearest<'a>(
    name: &str,
    options: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let distances = options.into_iter().map(|option| (distance(name, option), option));
    distances.filter(|(distance, _)| (1..3).contains(distance)).min().map(|(_, option)| option)
}

/// Levenshtein's distance: how many letters have to be added, removed or replaced.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a058_a_name_within_two_letters_is_proposed() {
        let check = |name: &str, expected: Option<&str>| {
            assert_eq!(nearest(name, ["build", "release"]), expected, "{name}");
        };
        check("bulid", Some("build"));
        check("builder", Some("build"));
        check("1", None);
        check("", None);
    }
}
