//! The client within the virtual machine of `tests/tests/vm.rs`: it writes, and says on the console what was acknowledged.
//!
//! ```text
//!  vm-guest write PORT COUNT    goes on behind COUNT acknowledged commands of each connection, without end
//!  vm-guest check PORT COUNT    reads every cell and counts those that are not what they were acknowledged to be
//! ```
//!
//! Each `ACKED` line has left the machine before anything more is sent, so that power may fail at any moment.

use std::{
    env,
    error::Error,
    io::{self, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use eagle_resp::Value;
use eagle_tests::{
    cells::{self, BATCH, CONNECTIONS},
    wire::{Wire, encode},
};

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = env::args().collect();
    let [_, task, port, count] = words.as_slice() else {
        return Err("vm-guest write|check PORT COUNT".into());
    };
    let (address, count) = (SocketAddr::from(([127, 0, 0, 1], port.parse()?)), count.parse()?);
    let mut wires = Vec::new();
    for _ in 0..CONNECTIONS {
        wires.push(connect(address)?);
    }
    if task == "write" { write(&mut wires, count) } else { check(&mut wires, count) }
}

/// A connection to a server that has all its data.
fn connect(address: SocketAddr) -> io::Result<Wire> {
    while TcpStream::connect(address).is_err() {
        thread::sleep(Duration::from_millis(20));
    }
    let mut wire = Wire::connect(address);
    loop {
        wire.write(&encode(&[b"GET", b"?"]))?;
        match wire.reply()? {
            Value::Error(_) => thread::sleep(Duration::from_millis(20)),
            _ => return Ok(wire),
        }
    }
}

fn write(wires: &mut [Wire], mut count: u64) -> Result<(), Box<dyn Error>> {
    let mut console = io::stdout();
    loop {
        for (connection, wire) in (0..).zip(&mut *wires) {
            for index in count..count + BATCH {
                let words = cells::command(connection, index);
                wire.write(&encode(&words.iter().map(Vec::as_slice).collect::<Vec<_>>()))?;
            }
        }
        for wire in &mut *wires {
            for _ in 0..BATCH {
                match wire.reply()? {
                    Value::Error(text) => return Err(format!("refused: {}", String::from_utf8_lossy(&text)).into()),
                    _acknowledged => {}
                }
            }
        }
        count += BATCH;
        writeln!(console, "ACKED {count}")?;
        console.flush()?;
        rustix::termios::tcdrain(&console)?;
    }
}

fn check(wires: &mut [Wire], count: u64) -> Result<(), Box<dyn Error>> {
    let mut console = io::stdout();
    let (mut cells, mut lost) = (0, 0);
    for (connection, wire) in (0..).zip(wires) {
        for (cell, words) in (0..).zip(cells::readers(connection)) {
            wire.write(&encode(&words.iter().map(Vec::as_slice).collect::<Vec<_>>()))?;
            let found = wire.reply()?;
            cells += 1;
            if !cells::may_be(connection, cell, &found, count, 2 * BATCH) {
                lost += 1;
                let found = format!("{found:?}");
                writeln!(console, "LOST connection {connection} cell {cell}: {}", &found[..found.len().min(60)])?;
            }
        }
    }
    writeln!(console, "CHECKED cells={cells} lost={lost}")?;
    Ok(())
}
