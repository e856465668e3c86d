//! A report: Markdown tables on standard output, and the same figures as JSON in a file.
//!
//! Every sub-command makes one [`Report`], adds tables and the raw measurements behind them, and finishes it.
//! A table prints as soon as it is whole; JSON is written at the end, so that a broken run leaves no half file.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Map, Value};

/// What a sub-command found.
pub(crate) struct Report {
    json_path: Option<PathBuf>,
    json: Map<String, Value>,
}

impl Report {
    /// A report under this title; its JSON goes to `json_path` if there is one.
    pub(crate) fn new(title: &str, json_path: Option<&Path>) -> Self {
        println!("## {title}\n");
        let mut json = Map::new();
        json.insert("title".into(), title.into());
        Self { json_path: json_path.map(Path::to_owned), json }
    }

    /// Prints a paragraph.
    pub(crate) fn say(&self, text: &str) {
        println!("{text}\n");
    }

    /// Prints a table and keeps its rows.
    pub(crate) fn table(&mut self, name: &str, table: &Table) {
        println!("{}", table.markdown());
        self.figures(name, table.json());
    }

    /// Keeps figures for the JSON only.
    pub(crate) fn figures(&mut self, name: &str, figures: Value) {
        self.json.insert(name.into(), figures);
    }

    /// Writes the JSON, if asked for.
    pub(crate) fn finish(self) -> Result<()> {
        let Some(path) = self.json_path else {
            return Ok(());
        };
        let text = serde_json::to_string_pretty(&Value::Object(self.json))?;
        std::fs::write(&path, text + "\n").with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Rows under column heads; every cell is text already.
pub(crate) struct Table {
    heads: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table with these columns.
    pub(crate) fn new<S: ToString>(heads: &[S]) -> Self {
        Self { heads: heads.iter().map(ToString::to_string).collect(), rows: Vec::new() }
    }

    /// Adds a row; it has as many cells as the table has columns.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.heads.len(), "a row has a cell for each column");
        self.rows.push(cells);
    }

    /// The table as Markdown, columns padded so that it reads as plain text too.
    fn markdown(&self) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].chars().count());
            cells.chain([self.heads[column].chars().count(), 3]).max().unwrap_or(3)
        };
        let widths: Vec<usize> = (0..self.heads.len()).map(width).collect();
        let mut text = String::new();
        let mut line = |cells: &[String]| {
            for (cell, width) in cells.iter().zip(&widths) {
                // Writing to a String cannot fail.
                let _ = write!(text, "| {cell:<width$} ");
            }
            text.push_str("|\n");
        };
        line(&self.heads);
        line(&widths.iter().map(|width| "-".repeat(*width)).collect::<Vec<_>>());
        self.rows.iter().for_each(|row| line(row));
        text
    }

    /// The table as a list of objects, one a row.
    fn json(&self) -> Value {
        let object = |row: &Vec<String>| {
            let pairs = self.heads.iter().cloned().zip(row.iter().map(|cell| Value::from(cell.as_str())));
            Value::Object(pairs.collect())
        };
        self.rows.iter().map(object).collect()
    }
}

/// The middle of the figures (the mean of the two middle ones where their number is even).
///
/// # Panics
/// Without any figure, or with one that is not a number: both are mistakes of the caller.
pub(crate) fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = figures.into_iter().collect();
    assert!(!sorted.is_empty(), "a median needs a figure");
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) }
}

/// The figure below which `share` (0 to 1) of the sorted figures lie.
///
/// # Panics
/// Without any figure.
pub(crate) fn quantile(sorted: &[f64], share: f64) -> f64 {
    assert!(!sorted.is_empty(), "a quantile needs a figure");
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_both_middles() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median([7.0]), 7.0);
    }

    #[test]
    fn a_quantile_is_the_figure_at_its_rank() {
        // The bounds and the middle of a small sorted list.
        let figures: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(quantile(&figures, 0.5), 50.0);
        assert_eq!(quantile(&figures, 0.99), 99.0);
        assert_eq!(quantile(&figures, 1.0), 100.0);
        assert_eq!(quantile(&figures[..1], 0.99), 1.0);
    }

    #[test]
    fn a_table_prints_as_markdown_and_as_objects() {
        let mut table = Table::new(&["server", "K/s"]);
        table.row(vec!["Redis 7.0.15".into(), "86".into()]);
        assert_eq!(table.markdown(), "| server       | K/s |\n| ------------ | --- |\n| Redis 7.0.15 | 86  |\n");
        assert_eq!(table.json(), serde_json::json!([{"server": "Redis 7.0.15", "K/s": "86"}]));
    }
}
