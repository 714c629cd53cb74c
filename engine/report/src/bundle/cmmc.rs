//! The two hash logs that an assessment under CMMC asks for: a list of all artefacts with their SHA-256, and the SHA-256
//! of that list. A table as PowerShell's `Get-FileHash` prints it: algorithm, digits in upper case, path.

use runbook_model::Sha256;

/// The table's head.
pub fn log_begin() -> String {
    format!("\n{:<15} {:<70} {}\n{:<15} {:<70} {}\n", "Algorithm", "Hash", "Path", "---------", "----", "----")
}

/// A line of the table.
pub fn log_line(digest: &Sha256, path: &str) -> String {
    format!("{:<15} {:<70} {path}\n", "SHA256", digest.to_string().to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_three_words_and_all_lines_have_their_columns_in_one_place() {
        let text = format!("{}{}", log_begin(), log_line(&Sha256::of(b""), "run.json"));
        let hash = "E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855";
        assert_eq!(text.lines().last().unwrap().split_whitespace().collect::<Vec<_>>(), ["SHA256", hash, "run.json"]);
        let columns: Vec<_> = text.lines().skip(1).map(|line| line.rfind(' ').unwrap()).collect();
        assert_eq!(columns, [86, 86, 86]);
    }
}
