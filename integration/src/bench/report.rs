//! Medians of all rounds, and how we stand beside the others.

use std::collections::BTreeMap;

use comfy_table::{Table, presets};
use serde_json::{Value, json};

use super::contestants::Contestant;
use super::tester::Figure;

/// Everything that was measured.
#[derive(Debug, Default)]
pub(crate) struct Report {
    versions: BTreeMap<Contestant, String>,
    /// By row, in the order in which rows came first.
    rows: Vec<(String, Row)>,
}

/// All figures of a row, each with the number of its round.
type Row = BTreeMap<Contestant, Vec<(usize, Figure)>>;

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Measure {
    Wall,
    Cpu,
    Peak,
}

impl Report {
    pub(crate) fn name(&mut self, contestant: Contestant, version: String) {
        self.versions.insert(contestant, version);
    }

    pub(crate) fn add(&mut self, contestant: Contestant, round: usize, figures: Vec<Figure>) {
        for figure in figures {
            let at = self.rows.iter().position(|(row, _)| *row == figure.row);
            let at = at.unwrap_or_else(|| {
                self.rows.push((figure.row.clone(), BTreeMap::new()));
                self.rows.len() - 1
            });
            self.rows[at].1.entry(contestant).or_default().push((round, figure));
        }
    }

    /// Every single figure.
    pub(crate) fn to_json(&self) -> Value {
        let versions = self.versions.iter();
        let figures = self.rows.iter().flat_map(|(_, by_contestant)| {
            by_contestant.iter().flat_map(|(contestant, figures)| {
                figures.iter().map(|(round, figure)| {
                    json!({ "daemon": contestant.name(), "round": round, "figure": figure })
                })
            })
        });
        json!({
            "versions": versions.map(|(c, version)| json!({ "daemon": c.name(), "version": version }))
                .collect::<Vec<_>>(),
            "figures": figures.collect::<Vec<_>>(),
        })
    }

    pub(crate) fn print(&self) {
        for (contestant, version) in &self.versions {
            println!("{}: {version}", contestant.name());
        }
        for (row, by_contestant) in &self.rows {
            println!("\n{row}");
            let mut table = Table::new();
            table.load_style(presets::UTF8_BORDERS_ONLY).set_header([
                "daemon",
                "right",
                "wall s",
                "(min-max)",
                "CPU s",
                "peak MiB",
                "UPDATEs",
                "prefixes",
                "tester CPU",
                "foreign",
                "",
            ]);
            for (contestant, figures) in by_contestant {
                table.add_row(line(*contestant, figures));
            }
            println!("{table}");
            let ratios = [Measure::Wall, Measure::Cpu, Measure::Peak];
            let ratios = ratios.iter().filter_map(|what| ratio(*what, by_contestant));
            println!("{}", ratios.collect::<Vec<_>>().join("; "));
        }
        self.print_wrong();
    }

    fn print_wrong(&self) {
        for (row, by_contestant) in &self.rows {
            for (contestant, figures) in by_contestant {
                for (round, figure) in figures {
                    if let Some(wrong) = &figure.wrong {
                        println!("{row}, {}, round {round}: {wrong}", contestant.name());
                    }
                }
            }
        }
    }
}

fn line(contestant: Contestant, figures: &[(usize, Figure)]) -> Vec<String> {
    let good = right(figures);
    let all = |of: fn(&Figure) -> f64| good.iter().map(|figure| of(figure)).collect::<Vec<_>>();
    let name = contestant.name().to_owned();
    let count = format!("{}/{}", good.len(), figures.len());
    if good.is_empty() {
        return vec![name, count];
    }
    let wall = all(|figure| figure.wall);
    let least = wall.iter().copied().fold(f64::INFINITY, f64::min);
    let most = wall.iter().copied().fold(0.0, f64::max);
    let names = good[0].more.keys();
    let more = names.map(|name| {
        let values = good.iter().filter_map(|figure| figure.more.get(name).copied());
        format!("{name} {:.1}", median(values.collect()))
    });
    vec![
        name,
        count,
        format!("{:.3}", median(wall)),
        format!("({least:.3}-{most:.3})"),
        format!("{:.3}", median(all(|figure| figure.cpu))),
        format!("{:.1}", median(all(|figure| kib(figure.peak_kib) / 1024.0))),
        format!("{:.0}", median(all(|figure| kib(figure.updates)))),
        format!("{:.0}", median(all(|figure| kib(figure.prefixes)))),
        format!("{:.3}", median(all(|figure| figure.tester_cpu))),
        format!("{:.2}", median(all(|figure| figure.foreign))),
        more.collect::<Vec<_>>().join(", "),
    ]
}

/// Runs that count.
fn right(figures: &[(usize, Figure)]) -> Vec<&Figure> {
    figures.iter().map(|(_, figure)| figure).filter(|figure| figure.wrong.is_none()).collect()
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn kib(number: u64) -> f64 {
    number as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => values[odd / 2],
        even => f64::midpoint(values[even / 2 - 1], values[even / 2]),
    }
}

impl Measure {
    fn of(self, figures: &[(usize, Figure)]) -> Option<f64> {
        let good = right(figures);
        let values = good.iter().map(|figure| match self {
            Self::Wall => figure.wall,
            Self::Cpu => figure.cpu,
            Self::Peak => kib(figure.peak_kib),
        });
        (!good.is_empty()).then(|| median(values.collect()))
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Wall => "wall",
            Self::Cpu => "CPU",
            Self::Peak => "peak memory",
        }
    }
}

/// Ours as a part of the best of the others, and of BIRD.
fn ratio(what: Measure, by_contestant: &Row) -> Option<String> {
    let ours = what.of(by_contestant.get(&Contestant::Ocicat)?)?;
    let others = by_contestant.iter().filter(|(contestant, _)| **contestant != Contestant::Ocicat);
    let others = others.filter_map(|(contestant, figures)| Some((what.of(figures)?, contestant)));
    let (best, who) = others.min_by(|a, b| a.0.total_cmp(&b.0))?;
    let bird = by_contestant.get(&Contestant::Bird).and_then(|figures| what.of(figures));
    let bird = bird.map_or(String::new(), |bird| format!(", {:.2} of bird", ours / bird));
    Some(format!("{} {:.2} of the best ({}){bird}", what.name(), ours / best, who.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(wall: f64, wrong: Option<&str>) -> Figure {
        Figure {
            row: "a".to_owned(),
            wrong: wrong.map(str::to_owned),
            wall,
            cpu: wall / 2.0,
            peak_kib: 1024,
            updates: 8_290,
            prefixes: 100_000,
            tester_cpu: 0.01,
            foreign: 0.0,
            more: BTreeMap::new(),
        }
    }

    #[test]
    fn a_wrong_run_counts_for_nothing_and_ratios_are_of_medians() {
        let ours = [figure(0.1, None), figure(9.0, Some("wrong")), figure(0.3, None)];
        let theirs = [figure(0.4, None)];
        let numbered = |figures: &[Figure]| figures.iter().cloned().enumerate().collect::<Vec<_>>();
        let row = BTreeMap::from([
            (Contestant::Ocicat, numbered(&ours)),
            (Contestant::Bird, numbered(&theirs)),
        ]);
        assert_eq!(line(Contestant::Ocicat, &row[&Contestant::Ocicat])[1..3], ["2/3", "0.200"]);
        assert_eq!(
            ratio(Measure::Wall, &row).unwrap(),
            "wall 0.50 of the best (bird), 0.50 of bird"
        );
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
    }
}
