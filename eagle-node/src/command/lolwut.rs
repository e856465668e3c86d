//! LOLWUT: a drawing, and the server's version.
//!
//! Georg Nees' "Schotter" (1968): rows of squares that lose their order towards the bottom, in the dots of Braille
//! characters, two wide and four high. `VERSION 5` as in Redis takes columns and squares a row and a column; every other
//! version shows the small one.

use eagle_resp::number;
use eagle_shard::{
    command::args::{self, is},
    error::Error,
    spec::{Flags, Group, Spec},
};

use super::NodeRun;
use crate::core::{Core, NodeCall};

pub(super) const ROW: Spec = Spec {
    name: "lolwut",
    syntax: "[VERSION version:integer]",
    arity: -1,
    flags: Flags::READ_FAST,
    group: Group::Server,
    since: "5.0.0",
    complexity: "",
    summary: "Displays computer art and the Redis version",
    ..Spec::BLANK
};

pub(super) const RUN: NodeRun = NodeRun::Here(lolwut);

/// Characters a line, squares a row, squares a column: of the small drawing, and of Redis' default.
const SMALL: [usize; 3] = [33, 6, 3];
const LARGE: [usize; 3] = [66, 8, 12];
const COLUMNS_MAX: i64 = 1000;
const SQUARES_MAX: i64 = 200;

fn lolwut(_: &mut Core, call: &mut NodeCall<'_>) -> Result<(), Error> {
    let mut size = SMALL;
    if let (Some(option), Some(version)) = (call.args.get(1), call.args.get(2))
        && is(option, "VERSION")
        && args::integer(version)? == 5
    {
        size = LARGE;
        for (index, most) in [(0, COLUMNS_MAX), (1, SQUARES_MAX), (2, SQUARES_MAX)] {
            if let Some(given) = call.args.get(3 + index) {
                let given = number::parse_i64(given).ok_or(Error::NotInteger)?;
                size[index] = given.clamp(1, most) as usize;
            }
        }
    }
    let mut rng = fastrand::Rng::with_seed(call.now.unix_us());
    let text = format!(
        "{}\nGeorg Nees - schotter, plotter on paper, 1968. EagleDB ver. {} (as Redis {})\n",
        schotter(size, &mut rng),
        env!("CARGO_PKG_VERSION"),
        crate::REDIS_VERSION
    );
    call.reply.verbatim("txt", text.as_bytes());
    Ok(())
}

/// Dots, two by four a character.
struct Canvas {
    columns: usize,
    cells: Vec<u8>,
}

impl Canvas {
    fn new(columns: usize, lines: usize) -> Self {
        Self { columns, cells: vec![0; columns * lines] }
    }

    fn dot(&mut self, x: f64, y: f64) {
        // Bits of the Braille block, by row and column of the dot.
        const BITS: [[u8; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];
        if x < -0.5 || y < -0.5 {
            return;
        }
        let (x, y) = (x.round() as usize, y.round() as usize);
        let cell = y / 4 * self.columns + x / 2;
        if x / 2 < self.columns && cell < self.cells.len() {
            self.cells[cell] |= BITS[y % 4][x % 2];
        }
    }

    /// A square around a point, turned.
    fn square(&mut self, (x, y): (f64, f64), side: f64, angle: f64) {
        let corner = |nth: f64| {
            let at = angle + (nth + 0.5) * std::f64::consts::FRAC_PI_2;
            let reach = side / std::f64::consts::SQRT_2;
            (x + reach * at.cos(), y + reach * at.sin())
        };
        let steps = side.ceil().max(1.0) as usize * 2;
        for nth in 0..4 {
            let (from, to) = (corner(f64::from(nth)), corner(f64::from(nth + 1)));
            for step in 0..=steps {
                let part = step as f64 / steps as f64;
                self.dot(from.0 + (to.0 - from.0) * part, from.1 + (to.1 - from.1) * part);
            }
        }
    }

    fn text(&self) -> String {
        let braille = |bits: &u8| char::from_u32(0x2800 + u32::from(*bits)).expect("the block has 256 characters");
        self.cells.chunks(self.columns).map(|line| line.iter().map(braille).chain(['\n']).collect::<String>()).collect()
    }
}

fn schotter([columns, a_row, a_column]: [usize; 3], rng: &mut fastrand::Rng) -> String {
    let width = columns as f64 * 2.0;
    let padding = if columns > 4 { 2.0 } else { 0.0 };
    let side = (width - 2.0 * padding) / a_row as f64;
    let height = side * a_column as f64 + 2.0 * padding;
    let mut canvas = Canvas::new(columns, (height / 4.0).ceil() as usize);
    for row in 0..a_column {
        for column in 0..a_row {
            let centre = |at: usize| padding + side * (at as f64 + 0.5);
            // The first row stands straight; below, disorder grows.
            let disorder = row as f64 / a_column as f64;
            let mut chance = |most: f64| if row == 0 { 0.0 } else { (rng.f64() * 2.0 - 1.0) * most * disorder };
            let (angle, x, y) = (chance(1.0), chance(side / 3.0), chance(side / 3.0));
            canvas.square((centre(column) + x, centre(row) + y), side, angle);
        }
    }
    canvas.text()
}

#[cfg(test)]
mod tests {
    use super::{super::trial::Trial, *};
    use crate::config::Config;

    #[test]
    fn squares_are_drawn_in_the_size_asked_for() {
        // As wide as asked, the first row straight and whole, the version behind it.
        let drawing = schotter([10, 1, 1], &mut fastrand::Rng::with_seed(1));
        let lines: Vec<&str> = drawing.lines().collect();
        assert!(lines.iter().all(|line| line.chars().count() == 10));
        assert_eq!(lines[0], "⠀⡤⠤⠤⠤⠤⠤⠤⠤⡄", "{drawing}");
        let mut trial = Trial::new(1, Config::default());
        let client = trial.connect(0);
        assert!(trial.ask(client, "LOLWUT").contains(" (as Redis 7.2.4)\n"));
        assert!(trial.ask(client, "LOLWUT VERSION 5 8 1 1").len() < trial.ask(client, "LOLWUT VERSION 5").len());
        assert_eq!(trial.ask(client, "LOLWUT VERSION x"), "-ERR value is not an integer or out of range\r\n");
    }
}
