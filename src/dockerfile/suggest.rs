//! Suggestions: which known name was perhaps meant.
//!
//! A name is near if at most two letters have to be added, removed or changed, whatever their case
//! (rule A012). Of several that are equally near, the first one is taken.

/// The name nearest to `word`; `None` if none is near, or if one is the same but for case.
pub fn nearest<'a>(word: &str, names: &[&'a str]) -> Option<&'a str> {
    let word = word.to_lowercase();
    let distances = names.iter().map(|name| (distance(&word, &name.to_lowercase()), *name));
    let (distance, name) = distances.min_by_key(|(distance, _)| *distance)?;
    (1..=2).contains(&distance).then_some(name)
}

/// Whether `word` is `name` with one slip of the finger: a letter too much, missing, wrong, or two
/// of them swapped.
pub fn is_slip(word: &str, name: &str) -> bool {
    let sorted = |text: &str| {
        let mut letters: Vec<char> = text.chars().collect();
        letters.sort_unstable();
        letters
    };
    match distance(word, name) {
        1 => true,
        2 => word.len() == name.len() && sorted(word) == sorted(name),
        _ => false,
    }
}

/// How a message says it: ` (did you mean X?)`, or nothing.
pub(crate) fn did_you_mean(suggestion: Option<&str>) -> String {
    suggestion.map(|name| format!(" (did you mean {name}?)")).unwrap_or_default()
}

/// The Levenshtein distance; 3 stands for everything that is larger.
fn distance(a: &str, b: &str) -> usize {
    const FAR: usize = 3;
    if a.len().abs_diff(b.len()) > 4 * FAR || a.len().min(b.len()) > 64 {
        return FAR;
    }
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in b.iter().enumerate() {
            let changed = diagonal + usize::from(left != *right);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()].min(FAR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_nearer_than_near() {
        let check = |word: &str, expected| assert_eq!(is_slip(word, "PATH"), expected, "{word}");
        check("PAHT", true);
        check("PATHS", true);
        check("PTH", true);
        check("GOPATH", false);
        check("PATH", false);
    }

    #[test]
    fn a012_near_names_are_suggested() {
        let check = |word: &str, expected| {
            assert_eq!(nearest(word, &["RUN", "FROM", "ENTRYPOINT"]), expected, "{word}");
        };
        check("RUNN", Some("RUN"));
        check("fron", Some("FROM"));
        check("ENTRYPIONT", Some("ENTRYPOINT"));
        check("run", None);
        check("COMPLETELY", None);
        check("", None);
        check(&"x".repeat(65_536), None);
    }
}
